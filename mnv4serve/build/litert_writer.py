"""Writes .tflite files the way every reader since 2020 understands them.

Constants lie inside the file, at the alignment that the format asks for, and operators carry the
first version whose kernel computes on int8: Google's Edge TPU compiler knows none newer than 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from typing_extensions import override

from mnv4serve.backends.litert_file import IDENTIFIER
from mnv4serve.build.ranges import Grid

FORMAT_VERSION = 3
ALIGNMENT_BYTES = 16
INT8_SHIFT = 128
"""From the uint8 grids of the ranges to int8."""


class Kind(Enum):
    """Operators that are written: builtin code, first version on int8, name of the options."""

    ADD = (0, 2, "AddOptions")
    CONV_2D = (3, 3, "Conv2DOptions")
    DEPTHWISE_CONV_2D = (4, 3, "DepthwiseConv2DOptions")
    FULLY_CONNECTED = (9, 4, "FullyConnectedOptions")
    RESHAPE = (22, 1, "ReshapeOptions")
    PAD = (34, 2, "PadOptions")
    MEAN = (40, 2, "ReducerOptions")


@dataclass(frozen=True, slots=True)
class Activation:
    """A tensor that operators pass on: its number in the file, its shape and its grid."""

    number: int
    shape: tuple[int, ...]
    grid: Grid


class FileWriter:
    """Collects the tensors and operators of one network."""

    def __init__(self) -> None:
        self._buffers: list[Any] = [schema.BufferT()]  # number 0 stands for no constant
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._kinds: list[Kind] = []

    def activation(self, name: str, shape: tuple[int, ...], grid: Grid) -> Activation:
        """Announce an int8 tensor with one scale."""
        tensor = self._tensor(name, shape, schema.TensorType.INT8)
        tensor.quantization = schema.QuantizationParametersT(
            scale=np.array([grid.scale], np.float32),
            zeroPoint=np.array([grid.zero - INT8_SHIFT], np.int64),
        )
        return Activation(len(self._tensors) - 1, shape, grid)

    def weights(
        self, name: str, values: NDArray[Any], scales: NDArray[np.float64], *, axis: int = 0
    ) -> int:
        """Write int8 weights or an int32 bias with a scale per channel, or one for all."""
        number = self.numbers(name, values)
        self._tensors[number].quantization = schema.QuantizationParametersT(
            scale=scales.astype(np.float32),
            zeroPoint=np.zeros(len(scales), np.int64),
            quantizedDimension=axis,
        )
        return number

    def numbers(self, name: str, values: NDArray[Any]) -> int:
        """Write plain whole numbers, for example the axes of a mean."""
        kind = schema.TensorType.INT8 if values.dtype == np.int8 else schema.TensorType.INT32
        tensor = self._tensor(name, values.shape, kind)
        tensor.buffer = len(self._buffers)
        self._buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        return len(self._tensors) - 1

    def operator(
        self, kind: Kind, inputs: Sequence[int], output: Activation, options: dict[str, Any]
    ) -> Activation:
        """Write an operator and give back its output."""
        name = kind.value[2]
        if kind not in self._kinds:
            self._kinds.append(kind)
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=self._kinds.index(kind),
                inputs=np.array(inputs, np.int32),
                outputs=np.array([output.number], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, name),
                builtinOptions=getattr(schema, f"{name}T")(**options),
            )
        )
        return output

    def finish(self, first: Activation, last: Activation) -> bytes:
        """The file's bytes, the same for the same calls."""
        graph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=np.array([first.number], np.int32),
            outputs=np.array([last.number], np.int32),
            operators=self._operators,
            name="mnv4",
        )
        model = schema.ModelT(
            version=FORMAT_VERSION,
            operatorCodes=[_operator_code(kind) for kind in self._kinds],
            subgraphs=[graph],
            description="mnv4serve",
            buffers=self._buffers,
        )
        builder = _AlignedBuilder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int) -> Any:  # noqa: ANN401
        tensor = schema.TensorT(name=name, shape=np.array(shape, np.int32), type=kind)
        self._tensors.append(tensor)
        return tensor


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Puts lists of bytes where the schema asks for them, which the generated code forgets."""

    @override
    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:
        aligned = ALIGNMENT_BYTES if elemSize == 1 else alignment
        return super().StartVector(elemSize, numElems, aligned)


def _operator_code(kind: Kind) -> Any:  # noqa: ANN401
    code, version, _ = kind.value
    return schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version)
