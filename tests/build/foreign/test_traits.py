"""What other people's files look like, and that each is served as it is meant."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="reading ONNX files needs onnx")
pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from onnx import TensorProto

from mnv4serve.backends import Artifact, open_backend
from mnv4serve.build.foreign import onnx_file
from mnv4serve.build.foreign.onnx_wrap import wrapped
from mnv4serve.build.foreign.propose import propose
from mnv4serve.build.foreign.run import logits, open_file
from mnv4serve.build.foreign.values import Proposal, Wishes
from mnv4serve.domain import BackendName
from tests.build.foreign.networks import SIDE, coloured, write_brightness, write_onnx
from tests.build.foreign.tflite_networks import write_tflite

DIRECTIONS = [0, 1, 2, 0, 1]
PICTURES = coloured(len(DIRECTIONS))


def served(found: Proposal, path: Path, backend: BackendName, *, n_labels: int = 3) -> NDArray[Any]:
    """What a backend answers, built as `add` builds it."""
    preprocessing = found.way.preprocessing
    target = path
    if path.suffix == ".onnx":
        content = wrapped(
            onnx_file.load(path), found.network, preprocessing, resolution=SIDE, n_labels=n_labels
        )
        target = path.with_suffix(".served.onnx")
        target.write_bytes(content)
    artifact = Artifact(
        target, backend, found.network.precision, "theirs@32", SIDE, n_labels, "", found.network,
        preprocessing,
    )  # fmt: skip
    with closing(open_backend(artifact, device="cpu", slots=2, threads=1)) as opened:
        together, alone = opened.infer(PICTURES).copy(), opened.infer(PICTURES[1:2], 1).copy()
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-4)
    return together


def check(path: Path, backends: tuple[BackendName, ...], wishes: Wishes = Wishes()) -> Proposal:  # noqa: B008
    """The proposal for a file, after each backend has given its logits and the right labels."""
    runner = open_file(path)
    found = propose(runner, wishes, n_labels=3)
    expected = logits(runner, found.network, found.way.preprocessing, PICTURES, n_labels=3)
    assert expected.argmax(axis=1).tolist() == DIRECTIONS
    for backend in backends:
        answers = served(found, path, backend)
        np.testing.assert_allclose(answers, expected, rtol=2e-3, atol=2e-2)
    return found


ONNX: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as torch exports it": ({}, {"layout": "NCHW", "batch": None, "gives": "logits"}),
    "fixed batch of one": ({"batch": 1}, {"batch": 1}),
    "fixed batch of two": ({"batch": 2}, {"batch": 2}),
    "unnamed open batch": ({"batch": "batch_size"}, {"batch": None}),
    "channels last": ({"layout": "NHWC", "producer": "tf2onnx"}, {"layout": "NHWC"}),
    "open sides": ({"side": "width"}, {"layout": "NCHW"}),
    "softmax": ({"last": "Softmax"}, {"gives": "probabilities"}),
    "log softmax": ({"last": "LogSoftmax"}, {"gives": "logits"}),
    "background": ({"background": True, "last": "Softmax"}, {"label_offset": 1}),
    "several outputs": ({"more_outputs": True}, {"output": "after MatMul"}),
    "half precision": ({"half": True, "number": TensorProto.FLOAT16}, {"number": "float16"}),
    "half weights": ({"half": True}, {"number": "float32"}),
    "pixels in": ({"number": TensorProto.UINT8, "scaled": True}, {"number": "uint8"}),
    "signed pixels in": ({"number": TensorProto.INT8, "scaled": True}, {"number": "int8"}),
    "scales itself": ({"scaled": True}, {"number": "float32"}),
    "answers as planes": ({"four_sides": True}, {"output": "after Reshape"}),
    "opset 7, weights among the inputs": ({"opset": 7, "listed_weights": True}, {}),
    **{f"opset {opset}": ({"opset": opset}, {}) for opset in (8, 10, 11, 13, 21)},
}


@pytest.mark.parametrize(("made", "expected"), ONNX.values(), ids=ONNX)
def test_onnx_files_of_many_kinds(
    tmp_path: Path, made: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Each is recognised for what it is, and both runtimes give the file's own answers."""
    path = write_onnx(tmp_path / "theirs.onnx", **made)
    wishes = Wishes(resolution=SIDE) if "side" in made else Wishes()

    found = check(path, (BackendName.ONNX, BackendName.CPU), wishes)

    seen = found.network.model_dump()
    assert {key: seen[key] for key in expected} == expected


TFLITE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "floats": ({}, {"number": "float32", "precision": "fp32", "gives": "logits"}),
    "planes": ({"layout": "NCHW"}, {"layout": "NCHW"}),
    "open sides": ({"open_sides": True}, {"layout": "NHWC"}),
    "uint8 with background and softmax": (
        {"number": "uint8", "background": True, "softmax": True},
        {"number": "uint8", "label_offset": 1, "gives": "probabilities", "precision": "int8"},
    ),
    "int8": ({"number": "int8"}, {"number": "int8", "precision": "int8", "gives": "logits"}),
    "int8 with softmax": ({"number": "int8", "softmax": True}, {"gives": "probabilities"}),
}


@pytest.mark.parametrize(("made", "expected"), TFLITE.values(), ids=TFLITE)
def test_tflite_files_of_many_kinds(
    tmp_path: Path, made: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Each is recognised for what it is, and LiteRT gives the file's own answers."""
    path = write_tflite(tmp_path / "theirs.tflite", **made)
    wishes = Wishes(resolution=SIDE) if "open_sides" in made else Wishes()

    found = check(path, (BackendName.LITERT,), wishes)

    seen = found.network.model_dump()
    assert {key: seen[key] for key in expected} == expected


def test_metadata_of_a_tflite_file_decides(tmp_path: Path) -> None:
    """Publishers say mean and deviation of pixels up to 255; nothing else is tried then."""
    path = write_tflite(tmp_path / "theirs.tflite", metadata=(102.0, 51.0))

    found = check(path, (BackendName.LITERT,))

    assert found.way.preprocessing.mean == pytest.approx((0.4,) * 3)
    assert found.way.preprocessing.std == pytest.approx((0.2,) * 3)
    assert found.rivals == ()


def test_grey_pictures_are_made_from_colours(tmp_path: Path) -> None:
    """A network with one channel sees brightness, the same on every runtime."""
    for planes in (True, False):
        path = write_brightness(tmp_path / "grey.onnx", planes=planes)
        runner = open_file(path)
        found = propose(runner, Wishes(), n_labels=2)

        assert found.network.colours == "grey"
        expected = logits(runner, found.network, found.way.preprocessing, PICTURES, n_labels=2)
        for backend in (BackendName.ONNX, BackendName.CPU):
            answers = served(found, path, backend, n_labels=2)
            np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(colours="BGR", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
        Wishes(mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3),
        Wishes(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ],
)
@pytest.mark.parametrize("number", ["float32", "uint8"])
def test_preparation_is_computed_alike(
    tmp_path: Path, suffix: str, wishes: Wishes, number: str
) -> None:
    """Whatever mean, deviation and order of colours: as served it equals NumPy's, spelled out."""
    if suffix == ".onnx":
        kind = TensorProto.FLOAT if number == "float32" else TensorProto.UINT8
        path, backend = write_onnx(tmp_path / "theirs.onnx", number=kind), BackendName.ONNX
    else:
        path = write_tflite(tmp_path / "theirs.tflite", number=number)
        backend = BackendName.LITERT
    runner = open_file(path)
    found = propose(runner, wishes, n_labels=3)

    answers = served(found, path, backend)

    expected = logits(runner, found.network, found.way.preprocessing, PICTURES, n_labels=3)
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=3e-2)
