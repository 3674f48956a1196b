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


def write_brightness(path: Path, *, planes: bool) -> Path:
    """A network of one channel: how bright a picture is, and the opposite."""
    shape = ["N", 1, SIDE, SIDE] if planes else ["N", SIDE, SIDE, 1]
    axes = [2, 3] if planes else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=axes, keepdims=1),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "signs"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.array([[1.0, -1.0]], np.float32), "signs")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path
    )
    return path


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
