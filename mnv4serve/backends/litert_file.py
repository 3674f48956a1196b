"""What a .tflite file holds, read without running it."""

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Literal

from mnv4serve.backends.flatbuffer import Malformed, Table

IDENTIFIER = b"TFL3"
EDGETPU_OPERATOR = "edgetpu-custom-op"
_CUSTOM = 32
_MOST_OLD_CODE = 127
"""Older files hold the code in one byte; newer ones put this there where it does not fit."""


class Number(IntEnum):
    """The number formats of tensors that matter here."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    STRING = 5
    BOOL = 6
    INT16 = 7
    INT8 = 9
    FLOAT64 = 10


_BYTES = {
    Number.FLOAT32: 4,
    Number.FLOAT16: 2,
    Number.INT32: 4,
    Number.UINT8: 1,
    Number.INT64: 8,
    Number.BOOL: 1,
    Number.INT16: 2,
    Number.INT8: 1,
    Number.FLOAT64: 8,
}
FLOATS = frozenset({Number.FLOAT32, Number.FLOAT16, Number.FLOAT64})

NAMES = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    34: "PAD",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    53: "CAST",
    114: "QUANTIZE",
    126: "BATCH_MATMUL",
    150: "GELU",
}
"""Builtin operators that classifiers use; others are called by their number."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the file announces it."""

    name: str
    shape: tuple[int, ...]
    number: int
    """A `Number` or a format not named there."""
    constant: bytes
    """Empty where operators compute it."""
    n_scales: int
    static: bool
    """Whether no dimension is left open."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator with the tensors that it reads and writes."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: bytes
    """Options of an operator that only a delegate knows."""


@dataclass(frozen=True, slots=True)
class Contents:
    """One network in a file."""

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    outside: int
    """Constants that lie behind the flatbuffer, where older readers find nothing."""

    @property
    def counts(self) -> Counter[str]:
        """How many operators there are of each name."""
        return Counter(operation.name for operation in self.operations)

    def ends(self, which: Literal["inputs", "outputs"]) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Number format and shape of what the network takes or gives."""
        tensors = [self.tensors[number] for number in getattr(self, which)]
        return tuple((tensor.number, tensor.shape) for tensor in tensors)

    @property
    def weight_bytes(self) -> int:
        return sum(len(tensor.constant) for tensor in self.tensors)

    @property
    def compiled(self) -> bool:
        """Whether it was made for an Edge TPU and runs nowhere else."""
        return any(operation.name == EDGETPU_OPERATOR for operation in self.operations)


def read(data: bytes) -> Contents:
    """The network in a .tflite file; raises Malformed where the file contradicts itself."""
    model = Table.root(data, identifier=IDENTIFIER)
    graphs = list(model.tables(2))
    if len(graphs) != 1:
        raise Malformed(f"it holds {len(graphs)} networks instead of one")
    codes = [_code(table) for table in model.tables(1)]
    buffers = list(model.tables(4))
    constants = [_constant(table) for table in buffers]
    contents = Contents(
        tensors=tuple(_tensor(table, constants) for table in graphs[0].tables(0)),
        operations=tuple(_operation(table, codes) for table in graphs[0].tables(3)),
        inputs=graphs[0].numbers(1, "i"),
        outputs=graphs[0].numbers(2, "i"),
        outside=sum(table.number(1, "Q") > 1 for table in buffers),
    )
    _check_references(contents)
    return contents


def _code(table: Table) -> tuple[str, int]:
    """Name and version of an operator."""
    code = max(table.number(0, "b"), table.number(3, "i"))
    version = table.number(2, "i", 1)
    if code == _CUSTOM:
        return table.content(1).decode(errors="replace"), version
    return NAMES.get(code, f"operator {code}"), version


def _constant(table: Table) -> bytes:
    """A buffer's bytes, wherever the file keeps them."""
    offset, length = table.number(1, "Q"), table.number(2, "Q")
    if offset <= 1:
        return table.content(0)
    if offset + length > len(table.data):
        raise Malformed(f"a constant of {length} bytes passes the end of the file")
    return table.data[offset : offset + length]


def _tensor(table: Table, constants: list[bytes]) -> Tensor:
    shape, number = table.numbers(0, "i"), table.number(1, "b")
    name = table.content(3).decode(errors="replace")
    buffer = table.number(2, "I")
    if buffer >= len(constants):
        raise Malformed(f"tensor {name} names a constant that is not there")
    constant = constants[buffer]
    if constant and number in _BYTES:
        expected, sparse = prod(shape) * _BYTES[Number(number)], table.table(6) is not None
        if len(constant) > expected or (len(constant) < expected and not sparse):
            raise Malformed(f"tensor {name} of shape {list(shape)} has {len(constant)} bytes")
    quantization = table.table(4)
    return Tensor(
        name=name,
        shape=shape,
        number=number,
        constant=constant,
        n_scales=len(quantization.numbers(2, "f")) if quantization else 0,
        static=all(size >= 0 for size in (*shape, *table.numbers(7, "i"))),
    )


def _operation(table: Table, codes: list[tuple[str, int]]) -> Operation:
    index = table.number(0, "I")
    if index >= len(codes):
        raise Malformed(f"an operator names code {index} of {len(codes)}")
    name, version = codes[index]
    return Operation(
        name=name,
        version=version,
        inputs=table.numbers(1, "i"),
        outputs=table.numbers(2, "i"),
        custom=table.content(5) if name == EDGETPU_OPERATOR else b"",
    )


def _check_references(contents: Contents) -> None:
    """Every tensor that is named has to be there; -1 stands for an input that is left out."""
    named = [contents.inputs, contents.outputs]
    named += [n for operation in contents.operations for n in (operation.inputs, operation.outputs)]
    for number in (number for numbers in named for number in numbers):
        if not -1 <= number < len(contents.tensors):
            raise Malformed(f"tensor {number} of {len(contents.tensors)} is named")
