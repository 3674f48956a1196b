"""What every backend keeps of the contract; each test runs on each one that is installed."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from mnv4serve.backends import Backend, open_backend, probe
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing
from tests.backends.tiny import LABELS, SIDE, artifact, pictures, write_int8, write_network

SERVED = (BackendName.CPU, BackendName.ONNX, BackendName.LITERT)
PRECISIONS = {BackendName.LITERT: Precision.INT8}
TOLERANCES = {BackendName.LITERT: 0.15}
"""In logits between -9 and 2; rounding to 256 levels is all that int8 may differ by."""


@pytest.fixture(params=SERVED)
def name(request: pytest.FixtureRequest) -> BackendName:
    found = probe(request.param)
    if not found.available:
        pytest.skip(found.reason)
    return BackendName(request.param)


@pytest.fixture
def tolerance(name: BackendName) -> float:
    return TOLERANCES.get(name, 1e-4)


@pytest.fixture
def file(name: BackendName, request: pytest.FixtureRequest) -> Path:
    """The tiny network as the backend reads it."""
    kind = "int8_network" if name is BackendName.LITERT else "network"
    return Path(request.getfixturevalue(kind))


@pytest.fixture
def backend(name: BackendName, file: Path) -> Iterator[Backend]:
    with closing(load(file, name, slots=2)) as opened:
        yield opened


def load(path: Path, name: BackendName, *, slots: int = 1, n_labels: int = LABELS) -> Backend:
    precision = PRECISIONS.get(name, Precision.FP32)
    described = artifact(path, name, precision=precision, n_labels=n_labels)
    return open_backend(described, device="cpu", slots=slots, threads=1)


def reference(network: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits as the ONNX standard's own slow evaluator computes them."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import

    (logits,) = ReferenceEvaluator(str(network)).run(None, {"pixels": pixels})
    return np.asarray(logits, np.float32)


def test_logits_equal_the_reference(backend: Backend, network: Path, tolerance: float) -> None:
    """Every batch size gives the reference's logits, in the order of the pictures."""
    for n in (1, 3, 1, 8, 3):
        pixels = pictures(n, seed=n)

        logits = backend.infer(pixels)

        assert logits.shape == (n, LABELS)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, reference(network, pixels), atol=tolerance)


def test_read_only_and_strided_pixels_are_taken(
    backend: Backend, network: Path, tolerance: float
) -> None:
    """A view with gaps or without the right to write gives the same logits as a copy."""
    pixels = pictures(4)
    frozen = pixels[:1].copy()
    frozen.flags.writeable = False

    np.testing.assert_allclose(
        backend.infer(pixels[::2]), reference(network, pixels[::2]), atol=tolerance
    )
    np.testing.assert_allclose(backend.infer(frozen), reference(network, frozen), atol=tolerance)


def test_two_slots_run_at_once(backend: Backend, network: Path, tolerance: float) -> None:
    """Two threads on two slots each get the logits of their own pictures, every time."""
    batches = [pictures(1, seed=seed) for seed in (1, 2)]
    expected = [reference(network, pixels) for pixels in batches]
    assert np.abs(expected[0] - expected[1]).max() > 3 * tolerance
    wrong: list[int] = []

    def work(slot: int) -> None:
        for _ in range(300):
            logits = backend.infer(batches[slot], slot)
            if not np.allclose(logits, expected[slot], atol=tolerance):
                wrong.append(slot)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_logits_stay_the_callers(backend: Backend) -> None:
    """A result does not change when another slot runs."""
    first = backend.infer(pictures(1, seed=1), 0)
    kept = first.copy()

    backend.infer(pictures(1, seed=2), 1)

    assert (first == kept).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((1, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((0, SIDE, SIDE, 3), np.uint8),
    ],
)
def test_other_pixels_are_refused(backend: Backend, pixels: NDArray[np.uint8]) -> None:
    """Wrong type, size, layout, rank or an empty batch: ValueError, and the backend goes on."""
    with pytest.raises(ValueError, match=r"pixels|picture"):
        backend.infer(pixels)

    assert backend.infer(pictures(1)).shape == (1, LABELS)


def test_an_unknown_slot_is_refused(backend: Backend) -> None:
    """Only the slots that were opened exist."""
    with pytest.raises(ValueError, match="slot"):
        backend.infer(pictures(1), 2)


def test_a_closed_backend_is_refused(backend: Backend) -> None:
    """After close no slot is left."""
    backend.close()

    with pytest.raises(ValueError, match="closed"):
        backend.infer(pictures(1))


def test_a_corrupt_file_is_a_mismatch(name: BackendName, file: Path, tmp_path: Path) -> None:
    """A truncated artifact is refused with the command that rebuilds it."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(file.read_bytes()[:200])

    with pytest.raises(ArtifactMismatch, match="build --force"):
        load(path, name)


def test_a_missing_file_is_named(name: BackendName, tmp_path: Path) -> None:
    """An artifact that is not there says how to build it."""
    with pytest.raises(ArtifactMissing, match="mnv4serve build"):
        load(tmp_path / "none", name)


def test_other_labels_are_a_mismatch(name: BackendName, file: Path) -> None:
    """A network that gives another number of logits is not what the artifact says."""
    with pytest.raises(ArtifactMismatch, match="logits"):
        load(file, name, n_labels=LABELS + 1)


def test_other_pictures_are_a_mismatch(name: BackendName, tmp_path: Path) -> None:
    """Another resolution or float pixels are not what the artifact says."""
    if name is BackendName.LITERT:
        wrong = write_int8(tmp_path / "larger.tflite", side=64)
    else:
        wrong = write_network(tmp_path / "floats.onnx", pixels=TensorProto.FLOAT)

    with pytest.raises(ArtifactMismatch):
        load(wrong, name)
