"""Behaviour of mnv4serve.backends.onnx_cuda, with the processor in a GPU's place."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mnv4serve.backends.cuda_buckets import BUCKETS, OutOfMemory
from mnv4serve.backends.onnx_cuda import (
    WARM_UP_RUNS,
    GpuLanes,
    load_libraries,
    provider,
    told_apart,
)
from mnv4serve.errors import ArmDown, BackendUnavailable, DeviceLost
from tests.backends.test_backends import reference
from tests.backends.tiny import LABELS, SIDE, pictures

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


class Session:
    """A real session on the processor that notes its runs and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        self._real = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.graphs: list[str] = []
        self.threads: set[int] = set()
        self.failure = ""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the runtime
        return getattr(self._real, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:  # noqa: ANN401
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self.threads.add(threading.get_ident())
        if self.failure:
            raise RuntimeError(self.failure)
        self._real.run_with_iobinding(binding, options)


@pytest.fixture
def session(network: Path) -> Session:
    return Session(network)


@pytest.fixture
def lanes(session: Session) -> Iterator[GpuLanes]:
    with closing(opened(session)) as made:
        yield made


def opened(session: Session) -> GpuLanes:
    shape = (SIDE, SIDE, 3)
    return GpuLanes(onnxruntime, session, shape=shape, n_labels=LABELS, device="cpu:0")


@pytest.mark.parametrize("n", [1, 3, 8, 40])
def test_logits_equal_the_reference(lanes: GpuLanes, network: Path, n: int) -> None:
    """Through bound buffers, padded and divided."""
    pixels = pictures(n, seed=n)

    np.testing.assert_allclose(lanes.infer(pixels), reference(network, pixels), atol=1e-4)


def test_every_bucket_is_captured_before_it_serves(lanes: GpuLanes, session: Session) -> None:
    """Each under an id of its own, and a run replays the one that holds it."""
    assert session.graphs == [str(size) for size in BUCKETS for _ in range(WARM_UP_RUNS)]

    lanes.infer(pictures(5))

    assert session.graphs[-1] == "8"


def test_one_thread_runs_for_all(lanes: GpuLanes, session: Session, network: Path) -> None:
    """A graph belongs to the thread that captured it; each caller gets its own answers."""
    batches = [pictures(2, seed=seed) for seed in range(4)]
    answers: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        answers[number] = lanes.infer(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(session.threads) == 1
    assert threading.get_ident() not in session.threads
    for number, pixels in enumerate(batches):
        np.testing.assert_allclose(answers[number], reference(network, pixels), atol=1e-4)


def test_memory_that_runs_out_costs_buckets_and_then_the_arm(
    lanes: GpuLanes, session: Session
) -> None:
    """Smaller ones are tried first; once there is memory again the smallest works."""
    session.failure = "BFCArena: Failed to allocate memory for requested buffer"
    with pytest.raises(ArmDown, match="memory"):
        lanes.infer(pictures(4))
    session.failure = ""

    assert lanes.infer(pictures(2)).shape == (2, LABELS)
    assert lanes.sizes == (1,)


def test_no_memory_at_the_start_makes_it_unavailable(session: Session) -> None:
    """With the device that has none."""
    session.failure = "CUDA out of memory"

    with pytest.raises(BackendUnavailable, match="memory of cpu:0"):
        opened(session)


def test_a_failing_gpu_is_lost(lanes: GpuLanes, session: Session) -> None:
    """Whatever else CUDA reports stays until the process ends."""
    session.failure = "CUDA failure 700: an illegal memory access was encountered"

    with pytest.raises(DeviceLost, match="start the service again"):
        lanes.infer(pictures(1))


def test_errors_are_told_apart_by_their_words() -> None:
    """Memory, a broken device, and what is neither."""
    other = ValueError("no such input")

    assert isinstance(told_apart(RuntimeError("Failed to allocate memory")), OutOfMemory)
    assert isinstance(told_apart(RuntimeError("CUDNN failure 4: internal error")), DeviceLost)
    assert told_apart(other) is other


def test_looking_for_libraries_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout there may be a document that a script reads."""
    runtime = ModuleType("onnxruntime")
    runtime.preload_dlls = lambda: sys.stdout.write("not found")  # type: ignore[attr-defined]

    load_libraries(runtime)

    assert capsys.readouterr().out == ""


def test_the_provider_is_asked_for_graphs_and_exact_numbers() -> None:
    """On the device that was named, without the shortened mantissa that fp32 is not."""
    name, options = provider(3)

    assert name == "CUDAExecutionProvider"
    assert options["device_id"] == "3"
    assert options["enable_cuda_graph"] == "1"
    assert options["use_tf32"] == "0"
