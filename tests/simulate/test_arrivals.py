from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.errors import BadConfig
from mnv4serve.simulate.arrivals import Arrivals, Process, arrival_times_s

DRAWN = [process for process in Process if process is not Process.TRACE]


def times(
    process: Process, n: int = 20_000, *, rate: float = 100.0, seed: int = 0, cv: float = 4.0
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    return arrival_times_s(Arrivals(process, cv), n, rate_per_s=rate, rng=rng)


@given(
    process=st.sampled_from(DRAWN),
    n=st.integers(1, 300),
    rate=st.floats(0.1, 1e5),
    seed=st.integers(0, 1000),
)
def test_times_never_fall(process: Process, n: int, rate: float, seed: int) -> None:
    """Every process gives as many times as asked for, in order, none before the start."""
    found = times(process, n, rate=rate, seed=seed)

    assert len(found) == n
    assert found[0] >= 0.0
    assert (np.diff(found) >= 0.0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("process", DRAWN)
def test_the_mean_rate_is_the_one_asked_for(process: Process) -> None:
    """20,000 requests at 100 a second take about 200 seconds, whatever their shape."""
    assert times(process)[-1] == pytest.approx(200.0, rel=0.1)


@pytest.mark.parametrize(
    ("process", "cv", "expected"),
    [
        (Process.CONSTANT, 1.0, 0.0),
        (Process.POISSON, 1.0, 1.0),
        (Process.GAMMA, 0.5, 0.5),
        (Process.GAMMA, 4.0, 4.0),
    ],
)
def test_gaps_spread_as_the_process_says(process: Process, cv: float, expected: float) -> None:
    """The gaps' deviation over their mean is 0, 1 or the one asked for."""
    gaps = np.diff(times(process, 40_000, cv=cv))

    assert gaps.std() / gaps.mean() == pytest.approx(expected, abs=0.15)


def share_before(process: Process, share: float) -> float:
    found = times(process)
    return float((found < share * found[-1]).mean())


def test_a_step_triples_the_rate_half_way() -> None:
    """A quarter of the requests comes in the first half."""
    assert share_before(Process.STEP, 0.5) == pytest.approx(0.25, abs=0.02)


def test_a_ramp_grows_steadily() -> None:
    """Three tenths come in the first half of a ramp from a fifth to nine fifths of the mean."""
    assert share_before(Process.RAMP, 0.5) == pytest.approx(0.3, abs=0.02)


def test_a_diurnal_run_has_two_nights() -> None:
    """The first and the third quarter's middles are busy, starts and middle of the run are not."""
    found = times(Process.DIURNAL)
    counts, _ = np.histogram(found, bins=8)

    assert counts[[1, 2, 5, 6]].min() > 2 * counts[[0, 3, 4, 7]].max()


def test_bursts_are_denser_than_poisson() -> None:
    """Counts in slots of a quarter second vary far more than by chance alone."""
    counts, _ = np.histogram(times(Process.MMPP), bins=800)

    assert counts.var() > 5.0 * counts.mean()


@pytest.mark.parametrize("cv", [0.0, -1.0, float("nan"), 1e9])
def test_a_spread_must_make_sense(cv: float) -> None:
    """Zero, negative, absurd and no number at all are refused."""
    with pytest.raises(BadConfig, match="cv is"):
        Arrivals(Process.GAMMA, cv)


def test_a_trace_needs_its_file() -> None:
    """Neither trace arrivals without a file nor a file for other arrivals."""
    with pytest.raises(BadConfig, match="need a trace file"):
        Arrivals(Process.TRACE)
    with pytest.raises(BadConfig, match="need a trace file"):
        Arrivals(Process.POISSON, trace=Path("a.csv"))
