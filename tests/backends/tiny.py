"""A tiny convolutional network as ONNX, made without torch."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mnv4serve.backends import Artifact
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import BackendName, Precision

SIDE = 32
LABELS = 5
RANGES = {"features": (0.0, 4.0), "pooled": (0.0, 3.4), "flat": (0.0, 3.4), "logits": (-9.0, 2.0)}
"""What int8 has levels for."""


def write_network(path: Path, *, side: int = SIDE, pixels: int = TensorProto.UINT8) -> Path:
    """uint8 RGB [N, side, side, 3] -> normalise -> convolution -> mean -> matmul -> logits."""
    weights = {"scale": np.float32(2 / 255), "one": np.float32(1), **_weights()}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["features"], strides=[2, 2]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", pixels, ["n", side, side, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", LABELS])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
    )
    onnx.save(model, path)
    return path


def write_int8(path: Path, *, side: int = SIDE) -> Path:
    """The same network as a .tflite file."""
    from mnv4serve.build.graph import INPUT, Operator  # noqa: PLC0415  # imports torch
    from mnv4serve.build.litert import litert_model  # noqa: PLC0415

    weights = _weights()
    attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 0, 0), "group": 1}
    graph = (
        Operator("Conv", "sums", (INPUT,), (weights["kernel"], np.zeros(8)), attributes),
        Operator("Relu", "features", ("sums",)),
        Operator("GlobalAveragePool", "pooled", ("features",)),
        Operator("Reshape", "flat", ("pooled",), (np.array([0, 8]),)),
        Operator("Gemm", "logits", ("flat",), (weights["matrix"].T, np.zeros(LABELS))),
    )
    half = (0.5, 0.5, 0.5)
    path.write_bytes(
        litert_model(graph, Preprocessing(resize="squash", mean=half, std=half), side, RANGES)
    )
    return path


def _weights() -> dict[str, NDArray[np.float32]]:
    dice = np.random.default_rng(7)
    return {
        "kernel": dice.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "matrix": dice.normal(0, 1, (8, LABELS)).astype(np.float32),
    }


def artifact(
    path: Path,
    backend: BackendName,
    *,
    precision: Precision = Precision.FP32,
    resolution: int = SIDE,
    n_labels: int = LABELS,
) -> Artifact:
    return Artifact(path, backend, precision, f"tiny@{resolution}", resolution, n_labels, "digest")


def pictures(n: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Noise of a colour that differs from picture to picture, so that the logits do."""
    dice = np.random.default_rng(seed)
    noise = dice.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    return (noise * dice.uniform(0, 1, (n, 1, 1, 3))).astype(np.uint8)
