import numpy as np
import pytest

from mnv4serve.domain import Timing
from mnv4serve.errors import BadConfig
from mnv4serve.simulate.faults import (
    Fault,
    FaultKind,
    misprofiled,
    outages_of,
    parse_fault,
    slowdown_of,
)


def factor_at(fault: str, share: float, *, device: int = 0) -> float:
    rng = np.random.default_rng(0)
    timeline = slowdown_of([parse_fault(fault)], device, horizon_ms=1000.0, rng=rng)
    return 1.0 if timeline is None else timeline.at(1000.0 * share)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slow", Fault(FaultKind.SLOW, 3.0)),
        ("slow=2.5@10-20", Fault(FaultKind.SLOW, 2.5, 0.1, 0.2)),
        ("gone@40-50/3", Fault(FaultKind.GONE, 1.0, 0.4, 0.5, 3)),
        ("profile=0.5", Fault(FaultKind.PROFILE, 0.5)),
        ("neighbour/1", Fault(FaultKind.NEIGHBOUR, 2.0, device=1)),
    ],
)
def test_faults_are_read_as_written(text: str, fault: Fault) -> None:
    """What is left out has a default; start and end are percent of the run."""
    assert parse_fault(text) == fault


def test_slowness_begins_and_ends() -> None:
    """The factor holds between start and end and on the device it is for."""
    assert [factor_at("slow=3@20-40", share) for share in (0.1, 0.2, 0.39, 0.4)] == [1, 3, 3, 1]
    assert factor_at("slow=3@20-40/1", 0.3) == 1.0
    assert factor_at("slow=3@20-40/1", 0.3, device=1) == 3.0


def test_slowness_multiplies() -> None:
    """Where two faults overlap both count."""
    faults = [parse_fault("slow=3@20-60"), parse_fault("slow=2@40-80")]

    timeline = slowdown_of(faults, 0, horizon_ms=100.0, rng=np.random.default_rng(0))

    assert timeline is not None
    assert [timeline.at(time) for time in (0, 30, 50, 70, 90)] == [1, 3, 6, 2, 1]


def test_a_neighbour_comes_and_goes() -> None:
    """Within its span a neighbour is noisy for about a fifth of the time."""
    timeline = slowdown_of(
        [parse_fault("neighbour=2@0-100")], 0, horizon_ms=1e5, rng=np.random.default_rng(1)
    )

    assert timeline is not None
    noisy = [timeline.at(time) == 2.0 for time in np.linspace(0.0, 1e5, 5000)]
    assert np.mean(noisy) == pytest.approx(0.2, abs=0.06)


def test_outages_are_those_of_the_device() -> None:
    """Times are milliseconds of the run; other faults are no outages."""
    faults = [parse_fault("gone@10-20/0"), parse_fault("slow"), parse_fault("gone@50-60")]

    assert outages_of(faults, 0, horizon_ms=1000.0) == [(100.0, 200.0), (500.0, 600.0)]
    assert outages_of(faults, 1, horizon_ms=1000.0) == [(500.0, 600.0)]


def test_a_skewed_profile_is_wrong_both_ways() -> None:
    """Every other arm looks slower, the others look as much faster; p99 may be unknown."""
    honest = Timing(2.0, 3.0, None, n=7)
    fault = parse_fault("skew=2")

    assert misprofiled(honest, [fault], 0, 0) == Timing(4.0, 6.0, None, n=7)
    assert misprofiled(honest, [fault], 0, 1) == Timing(1.0, 1.5, None, n=7)
    assert misprofiled(honest, [parse_fault("slow=2")], 0, 0) == honest


@pytest.mark.parametrize(
    "text", ["", "fire", "slow=", "slow=x", "slow@30", "slow@3-4/x", "slow=-1"]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """The sentence shows how a fault is written and which there are."""
    with pytest.raises(BadConfig, match="slow, gone, profile, skew, neighbour"):
        parse_fault(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("slow=0", "factor 0"),
        ("slow=1000", "factor 1000"),
        ("slow=0.5", "would make runs faster"),
        ("slow@60-30", "start before it ends"),
        ("gone@50-120", "within 0 to 100"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, sentence: str) -> None:
    """Factors and spans have limits."""
    with pytest.raises(BadConfig, match=sentence):
        parse_fault(text)
