"""Classifiers as TensorFlow's converter writes them: which colour a picture has most of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tests.build.foreign.networks import GAIN, SIDE, classes


@dataclass(frozen=True, slots=True)
class Kind:
    """Traits that files have."""

    number: str = "float32"
    layout: str = "NHWC"
    background: bool = False
    softmax: bool = False
    open_sides: bool = False


def write_tflite(
    path: Path,
    *,
    metadata: tuple[float, float] | None = None,
    **traits: Any,  # noqa: ANN401
) -> Path:
    """A .tflite classifier of floats or whole numbers, as TensorFlow's converter writes them."""
    kind = Kind(**traits)
    file = _File(kind.number)
    planes = kind.layout == "NCHW"
    side = 1 if kind.open_sides else SIDE
    shape = [1, 3, side, side] if planes else [1, side, side, 3]
    matrix = classes(background=kind.background).T
    n = len(matrix)
    signature = [-1, 3, -1, -1] if planes else [-1, -1, -1, 3]
    first = file.activation("image", shape, (1 / 128, 128), signature if kind.open_sides else None)
    axes = file.constant("axes", np.array([2, 3] if planes else [1, 2], np.int32))
    pooled = file.activation("pooled", [1, 3], (1 / 128, 128))
    file.operator(40, "Reducer", [first, axes], pooled, keepDims=False)
    weights, bias = file.weights(matrix)
    scores = file.activation("scores", [1, n], (2 * GAIN / 255, 128))
    file.operator(9, "FullyConnected", [pooled, weights, bias], scores)
    if kind.softmax:
        answer = file.activation("answer", [1, n], (1 / 256, 0))
        file.operator(25, "Softmax", [scores], answer, beta=1.0)
        scores = answer
    model = file.model(first, scores)
    if metadata is not None:
        model.metadata = [schema.MetadataT(name="TFLITE_METADATA", buffer=len(file.buffers))]
        content = np.frombuffer(_metadata(*metadata), np.uint8)
        file.buffers.append(schema.BufferT(data=content))
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _metadata(mean: float, deviation: float) -> bytes:
    """What TensorFlow's publishers write about normalisation: inmost table first."""
    builder = flatbuffers.Builder(256)
    vectors = [builder.CreateNumpyVector(np.array([v], np.float32)) for v in (mean, deviation)]

    def table(fields: dict[int, int], *, kind: int = 0) -> int:
        builder.StartObject(7)
        for number, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
        if kind:
            builder.PrependUint8Slot(0, kind, 0)
        return int(builder.EndObject())

    def vector(inside: int) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(inside)
        return int(builder.EndVector())

    options = table({0: vectors[0], 1: vectors[1]})
    unit = table({1: options}, kind=1)
    tensor = table({4: vector(unit)})
    graph = table({2: vector(tensor)})
    builder.Finish(table({3: vector(graph)}), b"M001")
    return bytes(builder.Output())


class _File:
    """Tensors and operators of one .tflite file."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.tensors: list[Any] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def activation(
        self,
        name: str,
        shape: list[int],
        grid: tuple[float, int],
        signature: list[int] | None = None,
    ) -> int:
        kind = getattr(schema.TensorType, self.number.upper())
        tensor = schema.TensorT(name=name, shape=np.array(shape, np.int32), type=kind)
        if signature is not None:
            tensor.shapeSignature = np.array(signature, np.int32)
        if self.number != "float32":
            zero = grid[1] - (128 if self.number == "int8" else 0)
            tensor.quantization = self._grid(grid[0], zero)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        kind = getattr(schema.TensorType, values.dtype.name.upper())
        self.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8).copy()))
        self.tensors.append(
            schema.TensorT(
                name=name,
                shape=np.array(values.shape, np.int32),
                type=kind,
                buffer=len(self.buffers) - 1,
            )
        )
        return len(self.tensors) - 1

    def weights(self, matrix: NDArray[np.float32]) -> tuple[int, int]:
        """A matrix and a bias of zeros, in the file's numbers."""
        zeros = np.zeros(len(matrix))
        if self.number == "float32":
            return self.constant("matrix", matrix), self.constant("bias", zeros.astype("float32"))
        scale, zero = GAIN / 127, 128 if self.number == "uint8" else 0
        levels = np.rint(matrix / scale) + zero
        number = self.constant("matrix", levels.astype(self.number))
        self.tensors[number].quantization = self._grid(scale, zero)
        bias = self.constant("bias", zeros.astype("int32"))
        self.tensors[bias].quantization = self._grid(scale / 128, 0)
        return number, bias

    def operator(
        self, code: int, options: str, inputs: list[int], output: int, **values: object
    ) -> None:
        self.codes.append(code)
        name = f"{options}Options"
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.codes) - 1,
                inputs=np.array(inputs, np.int32),
                outputs=np.array([output], np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, name),
                builtinOptions=getattr(schema, f"{name}T")(**values),
            )
        )

    def model(self, first: int, last: int) -> Any:  # noqa: ANN401
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=np.array([first], np.int32),
            outputs=np.array([last], np.int32),
            operators=self.operators,
        )
        version = 1 if self.number == "float32" else 2
        codes = [
            schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version)
            for code in self.codes
        ]
        if self.number == "int8":
            codes[1].version = 4
        return schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph], description="tests",
            buffers=self.buffers,
        )  # fmt: skip

    def _grid(self, scale: float, zero: int) -> Any:  # noqa: ANN401
        return schema.QuantizationParametersT(
            scale=np.array([scale], np.float32), zeroPoint=np.array([zero], np.int64)
        )
