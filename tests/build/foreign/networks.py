"""Classifiers as others write them: each tells which colour a picture has most of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

COLOURS = ("red", "green", "blue")
GAIN = 4.0
SIDE = 32
BACKGROUND = -2.0
INPUT = "my input:0"


def classes(*, background: bool) -> NDArray[np.float32]:
    """[3, classes]: the mean of each channel to the class of its colour."""
    colours = np.eye(3, dtype=np.float32) * GAIN
    nothing = np.full((3, 1), BACKGROUND, np.float32)
    return np.concatenate([nothing, colours], axis=1) if background else colours


@dataclass(frozen=True, slots=True)
class Kind:
    """Traits that some exporter gives its files."""

    layout: str = "NCHW"
    number: int = TensorProto.FLOAT
    batch: int | str = "N"
    side: int | str = SIDE
    opset: int = 17
    last: str = ""
    background: bool = False
    scaled: bool = False
    more_outputs: bool = False
    listed_weights: bool = False
    producer: str = "pytorch"
    half: bool = False
    four_sides: bool = False

    @property
    def working(self) -> int:
        return int(TensorProto.FLOAT16 if self.half else TensorProto.FLOAT)

    @property
    def weights(self) -> dict[str, NDArray[Any]]:
        kind = np.float16 if self.half else np.float32
        return {
            "kernel": np.eye(3).reshape(3, 3, 1, 1).astype(kind),
            "matrix": classes(background=self.background).astype(kind),
            **({"scale": np.array([1 / 255], kind)} if self.scaled else {}),
            **({"shape": np.array([-1, 3, 1, 1])} if self.four_sides else {}),
        }

    def nodes(self) -> list[onnx.NodeProto]:
        chain: list[tuple[str, list[str], dict[str, Any]]] = [
            ("Conv", ["kernel"], {}),
            ("GlobalAveragePool", [], {}),
            ("Flatten", [], {}),
            ("MatMul", ["matrix"], {}),
        ]
        if self.layout == "NHWC":
            chain.insert(0, ("Transpose", [], {"perm": [0, 3, 1, 2]}))
        if self.scaled:
            chain.insert(0, ("Mul", ["scale"], {}))
        if self.number != self.working:
            chain.insert(0, ("Cast", [], {"to": self.working}))
        if self.last:
            chain.append((self.last, [], {"axis": 1}))
        if self.four_sides:
            chain.append(("Reshape", ["shape"], {}))
        names = [INPUT, *(f"after {kind}" for kind, _, _ in chain)]
        return [
            helper.make_node(kind, [names[at], *more], [names[at + 1]], **attributes)
            for at, (kind, more, attributes) in enumerate(chain)
        ]


def write_onnx(path: Path, **traits: Any) -> Path:  # noqa: ANN401
    """An ONNX classifier of a `Kind`."""
    kind = Kind(**traits)
    nodes, weights = kind.nodes(), kind.weights
    sides = [3, kind.side, kind.side] if kind.layout == "NCHW" else [kind.side, kind.side, 3]
    inputs = [helper.make_tensor_value_info(INPUT, kind.number, [kind.batch, *sides])]
    if kind.listed_weights:
        inputs += [
            helper.make_tensor_value_info(name, kind.working, weight.shape)
            for name, weight in weights.items()
        ]
    names = [nodes[-1].output[0]]
    names += ["after Conv"] if kind.more_outputs else []
    graph = helper.make_graph(
        nodes,
        "colours",
        inputs,
        [helper.make_tensor_value_info(name, kind.working, None) for name in reversed(names)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", kind.opset)],
        ir_version=3 if kind.listed_weights else 8,
        producer_name=kind.producer,
    )
    onnx.save(model, path)
    return path


def write_tflite(
    path: Path,
    *,
    number: str = "float32",
    layout: str = "NHWC",
    background: bool = False,
    softmax: bool = False,
    open_sides: bool = False,
) -> Path:
    """A .tflite classifier of floats or whole numbers, as TensorFlow's converter writes them."""
    import flatbuffers  # noqa: PLC0415
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    file = _File(schema, number)
    planes = layout == "NCHW"
    side = 1 if open_sides else SIDE
    shape = [1, 3, side, side] if planes else [1, side, side, 3]
    matrix = classes(background=background).T
    n = len(matrix)
    signature = [-1, 3, -1, -1] if planes else [-1, -1, -1, 3]
    first = file.activation("image", shape, (1 / 128, 128), signature if open_sides else None)
    axes = file.constant("axes", np.array([2, 3] if planes else [1, 2], np.int32))
    pooled = file.activation("pooled", [1, 3], (1 / 128, 128))
    file.operator(40, "Reducer", [first, axes], pooled, keepDims=False)
    weights, bias = file.weights(matrix)
    scores = file.activation("scores", [1, n], (2 * GAIN / 255, 128))
    file.operator(9, "FullyConnected", [pooled, weights, bias], scores)
    if softmax:
        answer = file.activation("answer", [1, n], (1 / 256, 0))
        file.operator(25, "Softmax", [scores], answer, beta=1.0)
        scores = answer
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(file.model(first, scores).Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


class _File:
    """Tensors and operators of one .tflite file."""

    def __init__(self, schema: Any, number: str) -> None:  # noqa: ANN401
        self.schema, self.number = schema, number
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
        kind = getattr(self.schema.TensorType, self.number.upper())
        tensor = self.schema.TensorT(name=name, shape=np.array(shape, np.int32), type=kind)
        if signature is not None:
            tensor.shapeSignature = np.array(signature, np.int32)
        if self.number != "float32":
            zero = grid[1] - (128 if self.number == "int8" else 0)
            tensor.quantization = self._grid(grid[0], zero)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        kind = getattr(self.schema.TensorType, values.dtype.name.upper())
        self.buffers.append(
            self.schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8).copy())
        )
        self.tensors.append(
            self.schema.TensorT(
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
            self.schema.OperatorT(
                opcodeIndex=len(self.codes) - 1,
                inputs=np.array(inputs, np.int32),
                outputs=np.array([output], np.int32),
                builtinOptionsType=getattr(self.schema.BuiltinOptions, name),
                builtinOptions=getattr(self.schema, f"{name}T")(**values),
            )
        )

    def model(self, first: int, last: int) -> Any:  # noqa: ANN401
        graph = self.schema.SubGraphT(
            tensors=self.tensors,
            inputs=np.array([first], np.int32),
            outputs=np.array([last], np.int32),
            operators=self.operators,
        )
        version = 1 if self.number == "float32" else 2
        codes = [
            self.schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code, version=version)
            for code in self.codes
        ]
        if self.number == "int8":
            codes[1].version = 4
        return self.schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph], description="tests",
            buffers=self.buffers,
        )  # fmt: skip

    def _grid(self, scale: float, zero: int) -> Any:  # noqa: ANN401
        return self.schema.QuantizationParametersT(
            scale=np.array([scale], np.float32), zeroPoint=np.array([zero], np.int64)
        )


def coloured(n: int, *, side: int = SIDE) -> NDArray[np.uint8]:
    """Pictures of noise, red, green, blue and red again."""
    pixels = np.random.default_rng(0).normal(90, 25, (n, side, side, 3))
    for number in range(n):
        pixels[number, ..., number % 3] += 50
    return pixels.clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, *, each: int = 4) -> Path:
    """A folder of class folders."""
    for number, pixels in enumerate(coloured(3 * each, side=40)):
        path = folder / COLOURS[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder
