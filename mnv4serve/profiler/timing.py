"""How long an arm takes: samples from a clock that is handed in, summarised purely."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend
from mnv4serve.domain import Arm, Timing

BATCH_SIZES = (1, 2, 4, 8)
QUICK_BATCH_SIZES = (1,)
"""A second graph per arm for batches would cost half of a quick profile's time; for batches that
were not measured the router assumes that they gain nothing, and learns better."""
MS_PER_S = 1000.0
SWITCHES = 5
"""From another arm, each measured; over USB 2 one takes a tenth of a second."""
_SAMPLES_FOR_P99 = 200
_CALM = 1.3
"""90th percentile over median up to which a round counts as undisturbed."""
_MORE_ROUNDS = 2

Clock = Callable[[], float]
"""Seconds since an arbitrary moment, never going back."""


@dataclass(frozen=True, slots=True)
class Effort:
    """When a measurement is long enough: at `max_runs`, or at `max_seconds` with `min_runs`."""

    warm_up: int
    min_runs: int
    max_runs: int
    max_seconds: float


QUICK = Effort(warm_up=3, min_runs=15, max_runs=100, max_seconds=0.2)
THOROUGH = Effort(warm_up=10, min_runs=300, max_runs=3000, max_seconds=3.0)


def measure(
    run: Callable[[], object], *, effort: Effort, clock: Clock = time.perf_counter
) -> list[float]:
    """Milliseconds of each run after the warm-up, in the order they happened."""
    for _ in range(effort.warm_up):
        run()
    samples: list[float] = []
    end_s = clock() + effort.max_seconds
    while len(samples) < effort.max_runs:
        started_s = clock()
        if started_s >= end_s and len(samples) >= effort.min_runs:
            break
        run()
        samples.append((clock() - started_s) * MS_PER_S)
    return samples


def summarise(samples: Sequence[float], *, quick: bool) -> Timing:
    """Percentiles by nearest rank; no p99 after a quick or a short measurement."""
    ordered = sorted(samples)
    enough = not quick and len(ordered) >= _SAMPLES_FOR_P99
    return Timing(
        p50_ms=_percentile(ordered, 0.5),
        p90_ms=_percentile(ordered, 0.9),
        p99_ms=_percentile(ordered, 0.99) if enough else None,
        n=len(ordered),
    )


def profile_arm(
    backend: Backend,
    arm: Arm,
    *,
    batch_sizes: Sequence[int],
    quick: bool,
    clock: Clock = time.perf_counter,
) -> dict[int, Timing]:
    """Service times of a loaded arm by batch size, inference alone, on its first slot."""
    noise = np.random.default_rng(0)
    timings = {}
    for batch in batch_sizes:
        shape = (batch, arm.resolution, arm.resolution, 3)
        pixels = noise.integers(0, 256, shape, dtype=np.uint8)
        timings[batch] = _undisturbed(partial(backend.infer, pixels), quick=quick, clock=clock)
    return timings


def first_run_ms(
    there: tuple[Backend, Arm], arriving: tuple[Backend, Arm], *, clock: Clock = time.perf_counter
) -> float:
    """What the second arm's first picture takes right after the first arm ran."""
    (displaced, before), (backend, arm) = there, arriving
    samples = []
    for _ in range(SWITCHES):
        displaced.infer(_blank(before))
        started_s = clock()
        backend.infer(_blank(arm))
        samples.append((clock() - started_s) * MS_PER_S)
    return _percentile(sorted(samples), 0.5)


def _blank(arm: Arm) -> NDArray[np.uint8]:
    return np.zeros((1, arm.resolution, arm.resolution, 3), np.uint8)


def _undisturbed(run: Callable[[], object], *, quick: bool, clock: Clock) -> Timing:
    """The best of a few rounds where other work on the host spreads the samples.

    Arms are measured one after the other, so a disturbance would make one look slower than the
    next; a host that is busy all the time is what the router's slowdown ratio is for.
    """
    effort = QUICK if quick else THOROUGH
    best = summarise(measure(run, effort=effort, clock=clock), quick=quick)
    for _ in range(_MORE_ROUNDS):
        if best.p90_ms <= best.p50_ms * _CALM:
            break
        again = summarise(measure(run, effort=effort, clock=clock), quick=quick)
        best = min(best, again, key=lambda timing: timing.p50_ms + timing.p90_ms)
    return best


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
