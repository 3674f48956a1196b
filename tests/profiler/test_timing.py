"""Behaviour of mnv4serve.profiler.timing."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mnv4serve.domain import Arm, BackendName, Precision
from mnv4serve.profiler.timing import Effort, measure, profile_arm, summarise


class Clock:
    """Stands still but for what a run takes."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def takes(self, *durations_ms: float) -> Callable[[], None]:
        """A run that takes these durations in turn, the last one for ever."""
        left = list(durations_ms)

        def run() -> None:
            self.now_s += (left.pop(0) if len(left) > 1 else left[0]) / 1000

        return run


class FakeBackend:
    """Takes one millisecond per picture of the clock's time, or as a script says."""

    def __init__(self, clock: Clock, script: Callable[[int], float] | None = None) -> None:
        self._clock = clock
        self._script = script
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        assert slot == 0
        self.shapes.append(pixels.shape)
        took_ms = self._script(len(self.shapes)) if self._script else float(len(pixels))
        self._clock.now_s += took_ms / 1000
        return np.zeros((len(pixels), 2), np.float32)

    def close(self) -> None:
        return


ARM = Arm("tiny@32", BackendName.CPU, Precision.FP32, "cpu", 32)


def test_warm_up_does_not_count() -> None:
    """The first, slow runs are left out of the samples."""
    clock = Clock()
    effort = Effort(warm_up=2, min_runs=3, max_runs=3, max_seconds=1)

    samples = measure(clock.takes(500, 400, 2, 3, 4), effort=effort, clock=clock)

    assert samples == pytest.approx([2, 3, 4])


@pytest.mark.parametrize(("took_ms", "runs"), [(1.0, 50), (10.0, 20), (400.0, 5)])
def test_effort_bounds_time_and_runs(took_ms: float, runs: int) -> None:
    """At most max_runs, then max_seconds, but never fewer than min_runs."""
    clock = Clock()
    effort = Effort(warm_up=0, min_runs=5, max_runs=50, max_seconds=0.1999)

    assert len(measure(clock.takes(took_ms), effort=effort, clock=clock)) == runs


def test_percentiles_are_by_nearest_rank() -> None:
    """Of 1 to 200 the percentiles are samples that happened."""
    timing = summarise([float(i) for i in range(200, 0, -1)], quick=False)

    assert (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.n) == (100.0, 180.0, 198.0, 200)


def test_no_p99_from_few_samples_or_in_a_hurry() -> None:
    """A p99 needs many samples."""
    assert summarise([1.0] * 500, quick=True).p99_ms is None
    assert summarise([1.0] * 50, quick=False).p99_ms is None


def test_an_arm_is_measured_at_every_batch_size() -> None:
    """Each batch size gets its own timing from pictures of the arm's resolution."""
    clock = Clock()
    backend = FakeBackend(clock)

    timings = profile_arm(backend, ARM, batch_sizes=(1, 4), quick=True, clock=clock)

    assert {batch: round(timing.p50_ms, 6) for batch, timing in timings.items()} == {1: 1, 4: 4}
    assert set(backend.shapes) == {(1, 32, 32, 3), (4, 32, 32, 3)}


def test_a_disturbed_round_is_measured_again() -> None:
    """While another program makes every other run slow, the measurement is repeated."""
    clock = Clock()
    disturbed_runs = 40  # two rounds of them

    def script(run: int) -> float:
        return 20.0 if run <= disturbed_runs and run % 2 else 5.0

    backend = FakeBackend(clock, script)
    timing = profile_arm(backend, ARM, batch_sizes=(1,), quick=True, clock=clock)[1]

    assert timing.p50_ms == pytest.approx(5.0)
    assert timing.p90_ms == pytest.approx(5.0)
