"""Behaviour of mnv4serve.backends.cuda with the processor in a GPU's place."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

import torch

from mnv4serve.backends.cuda import WARM_UP_RUNS, CudaBackend
from mnv4serve.backends.cuda_buckets import BUCKETS, OutOfMemory
from mnv4serve.backends.cuda_runtime import _Compiled, told_apart
from mnv4serve.domain import BackendName
from mnv4serve.errors import (
    ArmDown,
    ArtifactMismatch,
    BackendUnavailable,
    DeviceLost,
)
from tests.backends.cuda_double import Processor, write_program
from tests.backends.test_backends import reference
from tests.backends.tiny import LABELS, SIDE, artifact, pictures


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_program(tmp_path_factory.mktemp("cuda") / "model.safetensors")


@pytest.fixture
def gpu() -> Processor:
    return Processor()


@pytest.fixture
def backend(program: Path, gpu: Processor) -> Iterator[CudaBackend]:
    with closing(opened(program, gpu, slots=2)) as made:
        yield made


def opened(program: Path, gpu: Processor, *, slots: int = 1) -> CudaBackend:
    return CudaBackend(artifact(program, BackendName.CUDA), gpu, slots=slots)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 21, 40])
def test_logits_equal_the_reference(backend: CudaBackend, network: Path, n: int) -> None:
    """For sizes that are buckets, are padded to one, and are divided among several."""
    pixels = pictures(n, seed=n)

    np.testing.assert_allclose(backend.infer(pixels), reference(network, pixels), atol=1e-4)


def test_every_slot_is_captured_for_every_bucket_before_it_serves(
    backend: CudaBackend, gpu: Processor
) -> None:
    """So that no request waits for a capture; the network is compiled once for all slots."""
    assert gpu.captured == [*BUCKETS, *BUCKETS]
    assert backend.buckets == (BUCKETS, BUCKETS)
    assert gpu.compilations == 1
    assert len(gpu.streams) == 2


def test_a_batch_replays_one_graph(backend: CudaBackend, gpu: Processor) -> None:
    """That of the smallest bucket that holds it, and waits once for its result."""
    waits = gpu.streams[0].waits

    backend.infer(pictures(5))

    assert gpu.replayed == [8]
    assert gpu.streams[0].waits == waits + 1
    assert gpu.streams[1].waits == len(BUCKETS)


def test_padding_leaves_no_trace(backend: CudaBackend) -> None:
    """What a fuller batch left in the buffers does not change a later answer."""
    alone = backend.infer(pictures(3, seed=3))

    backend.infer(pictures(4, seed=9))

    np.testing.assert_array_equal(backend.infer(pictures(3, seed=3)), alone)


def test_slots_share_no_buffer(backend: CudaBackend) -> None:
    """Threads on different slots get the answers to their own pictures."""
    batches = [pictures(3, seed=seed) for seed in (1, 2)]
    expected = [backend.infer(pixels, slot).copy() for slot, pixels in enumerate(batches)]
    wrong: list[int] = []

    def work(slot: int) -> None:
        for _ in range(100):
            right = np.array_equal(backend.infer(batches[slot], slot), expected[slot])
            wrong.extend([] if right else [slot])

    threads = [Thread(target=work, args=(slot,)) for slot in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_results_are_the_callers(backend: CudaBackend) -> None:
    """The next run of the same slot does not change them."""
    first = backend.infer(pictures(2, seed=1))
    kept = first.copy()

    backend.infer(pictures(2, seed=2))

    assert (first == kept).all()


def test_little_memory_costs_the_large_buckets(program: Path, gpu: Processor) -> None:
    """Opening goes on with those that fit, and larger batches are divided."""
    gpu.fits = 4

    backend = opened(program, gpu)

    assert backend.buckets == ((1, 2, 4),)
    assert backend.infer(pictures(9)).shape == (9, LABELS)
    assert gpu.replayed == [4, 4, 1]


def test_no_memory_at_all_makes_the_backend_unavailable(program: Path, gpu: Processor) -> None:
    """With the name of what did not fit, and nothing kept."""
    gpu.fits = 0

    with pytest.raises(BackendUnavailable, match=r"tiny@32 does not fit into the memory"):
        opened(program, gpu)

    assert gpu.releases == 1


def test_memory_that_runs_out_while_serving_falls_to_smaller_buckets(
    backend: CudaBackend, gpu: Processor
) -> None:
    """Without any that works the arm is down for the moment, and then comes back."""
    gpu.failure = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ArmDown, match="memory"):
        backend.infer(pictures(4))
    gpu.failure = None

    assert backend.infer(pictures(4)).shape == (4, LABELS)
    assert backend.buckets == ((1,), BUCKETS)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    ],
    ids=["launch", "library", "memory"],
)
def test_a_failing_gpu_is_lost(backend: CudaBackend, gpu: Processor, failure: Exception) -> None:
    """With what it reported and what to do; closing it is possible all the same."""
    gpu.failure = failure

    with pytest.raises(DeviceLost, match="start the service again"):
        backend.infer(pictures(1))
    backend.close()


def test_a_broken_off_capture_is_known_by_its_cause() -> None:
    """Ending a capture reports only that it failed; the memory error is behind it."""
    error = torch.AcceleratorError("CUDA error: operation failed")
    error.__context__ = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory), told_apart():
        raise error


def test_other_errors_are_no_lost_device() -> None:
    """A mistake of ours does not take the device away from everybody."""
    with pytest.raises(RuntimeError, match="shapes"), told_apart():
        raise RuntimeError("shapes cannot be multiplied")


def test_a_network_that_does_not_run_is_a_mismatch(
    program: Path, gpu: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of sizes that do not go together are found when it is opened."""

    def fails(_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(gpu, "compiled", lambda _: fails)

    with pytest.raises(ArtifactMismatch, match="cannot be multiplied"):
        opened(program, gpu)


def test_other_logits_than_announced_are_a_mismatch(
    program: Path, gpu: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of logits is checked on the first run."""
    monkeypatch.setattr(gpu, "compiled", lambda _: lambda pixels: torch.zeros(len(pixels), 9))

    with pytest.raises(ArtifactMismatch, match="9"):
        opened(program, gpu)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((1, SIDE, SIDE + 1, 3), np.uint8),
        np.zeros((0, SIDE, SIDE, 3), np.uint8),
    ],
)
def test_other_pixels_are_refused(backend: CudaBackend, pixels: np.ndarray) -> None:
    """Wrong type, size or an empty batch."""
    with pytest.raises(ValueError, match=r"pixels|picture"):
        backend.infer(pixels)


def test_a_closed_backend_is_refused(program: Path, gpu: Processor) -> None:
    """Its weights are gone when memory is given back, and no slot is left."""
    backend = opened(program, gpu)
    assert gpu.weights() is not None

    backend.close()

    assert gpu.weights() is None
    assert gpu.releases == 1
    with pytest.raises(ValueError, match="closed"):
        backend.infer(pictures(1))


def test_warm_up_comes_before_the_capture(program: Path, gpu: Processor) -> None:
    """A capture must not be what chooses algorithms or compiles."""
    sizes: list[int] = []
    compiled = gpu.compiled

    def counted(network: object) -> object:
        run = compiled(network)  # type: ignore[arg-type]

        def noted(pixels: torch.Tensor) -> torch.Tensor:
            sizes.append(len(pixels))
            return run(pixels)

        return noted

    gpu.compiled = counted  # type: ignore[method-assign, assignment]
    opened(program, gpu)

    assert sizes == [size for size in BUCKETS for _ in range(WARM_UP_RUNS + 1)]


def test_what_cannot_be_compiled_runs_as_it_was_written(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing C compiler costs speed, not the service; it is said once."""
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 - slow to import

    def no_compiler(_: torch.Tensor) -> torch.Tensor:
        raise TorchDynamoException("no C compiler")

    monkeypatch.setattr(torch, "compile", lambda _: no_compiler)
    network = _Compiled(lambda pixels: pixels + 1)

    results = [network(torch.zeros(1)).item() for _ in range(3)]

    assert results == [1, 1, 1]
    assert [record.message for record in caplog.records] == ["cuda_not_compiled"]
