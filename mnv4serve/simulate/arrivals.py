"""When requests come: arrival processes of a mean rate, and traces of real ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.errors import BadConfig
from mnv4serve.simulate.traces import read_trace

Floats = NDArray[np.float64]

MAX_CV = 100.0
BURST_RATIO = 5.0
"""How much denser requests come in a Markov burst than between bursts."""
BURST_S, QUIET_S = 0.5, 2.0
"""Mean lengths of bursts and of the time between them."""
STEP = (0.5, 1.5)
"""Share of the mean rate in the first and in the second half."""
RAMP = (0.2, 1.8)
"""Share of the mean rate at the start and at the end."""
DAYS, SWING = 2.0, 0.8
"""A diurnal run shows two days, whose peak is this share above the mean."""
GRID = 2049


class Process(StrEnum):
    """The arrival processes."""

    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"
    MMPP = "mmpp"
    STEP = "step"
    RAMP = "ramp"
    DIURNAL = "diurnal"
    TRACE = "trace"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """An arrival process; `cv` is the spread of gamma's gaps, `trace` the file of a trace."""

    process: Process = Process.POISSON
    cv: float = 4.0
    trace: Path | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.cv <= MAX_CV:
            raise BadConfig(f"cv is {self.cv:g}: it must be above 0 and at most {MAX_CV:g}")
        if (self.process is Process.TRACE) != (self.trace is not None):
            raise BadConfig("arrivals of a trace need a trace file, and only they do")


def arrival_times_s(
    arrivals: Arrivals, n: int, *, rate_per_s: float, rng: np.random.Generator
) -> Floats:
    """`n` times in seconds, never falling, at this rate on average over the process."""
    match arrivals.process:
        case Process.CONSTANT:
            return np.arange(1, n + 1) / rate_per_s
        case Process.GAMMA:
            shape = arrivals.cv**-2
            return np.cumsum(rng.gamma(shape, 1.0 / (shape * rate_per_s), n))
        case Process.TRACE:
            assert arrivals.trace is not None
            return read_trace(arrivals.trace, n, rate_per_s=rate_per_s, rng=rng)
        case Process.POISSON | Process.MMPP | Process.STEP | Process.RAMP | Process.DIURNAL:
            times, expected = _intensity(arrivals.process, n / rate_per_s, rate_per_s, rng)
            return np.interp(_unit_poisson(expected[-1], n, rng), expected, times)


def _unit_poisson(total: float, n: int, rng: np.random.Generator) -> Floats:
    """A Poisson process on [0, total] given that it has `n` points."""
    return np.sort(rng.uniform(0.0, total, n))


def _intensity(
    process: Process, horizon_s: float, rate_per_s: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Times, and how many requests are expected up to each of them."""
    if process is Process.MMPP:
        return _bursts(horizon_s, rng)
    times = np.linspace(0.0, horizon_s, GRID)
    share = times / horizon_s
    rates: Mapping[Process, Floats] = {
        Process.POISSON: np.ones(GRID),
        Process.STEP: np.where(share < 0.5, *STEP),  # noqa: PLR2004  # half of the run
        Process.RAMP: RAMP[0] + (RAMP[1] - RAMP[0]) * share,
        Process.DIURNAL: 1.0 - SWING * np.cos(2.0 * np.pi * DAYS * share),
    }
    rate = rates[process] * rate_per_s
    steps = 0.5 * (rate[1:] + rate[:-1]) * np.diff(times)
    return times, np.concatenate([[0.0], np.cumsum(steps)])


def _bursts(horizon_s: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Quiet and burst by turns, each as long as chance has it; starts in either."""
    n = 2 * (int(horizon_s / (BURST_S + QUIET_S)) + 16)
    dense = (np.arange(n) + rng.integers(2)) % 2 == 0
    lengths = rng.exponential(np.where(dense, BURST_S, QUIET_S))
    while lengths.sum() < horizon_s:
        lengths *= 2.0
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    expected = np.concatenate([[0.0], np.cumsum(lengths * np.where(dense, BURST_RATIO, 1.0))])
    inside = times < horizon_s
    last = np.interp(horizon_s, times, expected)
    return np.append(times[inside], horizon_s), np.append(expected[inside], last)
