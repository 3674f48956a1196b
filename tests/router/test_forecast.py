import random

import pytest

from mnv4serve.router.forecast import Forecast, Outlook


def _half(_beyond_ms: float) -> float:
    return 0.5


def _outlook(subject: Forecast, now_ms: float) -> Outlook:
    outlook = subject.look(now_ms)
    assert outlook is not None
    return outlook


def _poisson(subject: Forecast, *, gap_ms: float, n: int, budget_ms: float = 20.0) -> float:
    """Lets requests arrive at random, looking ahead after each; when the last one came."""
    generator = random.Random(1)
    now_ms = 0.0
    for _ in range(n):
        now_ms += generator.expovariate(1.0 / gap_ms)
        subject.arrived(budget_ms, now_ms)
        subject.look(now_ms)
    return now_ms


def test_nothing_is_foretold_before_two_requests_came() -> None:
    """A single request has no rate."""
    subject = Forecast(1.0, _half)
    subject.arrived(10.0, 5.0)

    assert subject.look(5.0) is None


def test_a_steady_stream_goes_on_at_its_rate() -> None:
    """Of arrivals without memory, as many come as their rate says, and scatter accordingly."""
    subject = Forecast(1.0, _half)
    now_ms = _poisson(subject, gap_ms=2.0, n=4000)

    outlook = _outlook(subject, now_ms)

    assert subject.rate == pytest.approx(0.5, rel=0.25)
    for duration_ms in (2.0, 10.0, 40.0, 100.0):
        assert outlook.within(duration_ms) == pytest.approx(duration_ms / 2.0, rel=0.3)
    assert outlook.spread(40.0) == pytest.approx(20.0**0.5, rel=0.6)


def test_bursts_are_told_from_the_calm_between_them() -> None:
    """Right after a request more are to come at once; a while later none are."""
    subject = Forecast(1.0, _half)
    now_ms = 0.0
    for _ in range(200):
        for _ in range(8):
            now_ms += 0.1
            subject.arrived(20.0, now_ms)
            subject.look(now_ms)
        subject.look(now_ms + 2.0)
        subject.look(now_ms + 10.0)
        now_ms += 50.0
    subject.arrived(20.0, now_ms)

    inside, after = _outlook(subject, now_ms), _outlook(subject, now_ms + 10.0)

    assert inside.within(2.0) > 2.0
    assert after.within(2.0) < 0.5


def test_due_and_blocked_follow_the_budgets() -> None:
    """What has time until later is neither due nor blocked before."""
    subject = Forecast(1.0, _half)
    now_ms = _poisson(subject, gap_ms=1.0, n=2000, budget_ms=10.0)

    outlook = _outlook(subject, now_ms)

    assert outlook.due(8.0) == 0.0
    assert outlook.due(32.0) == pytest.approx(outlook.within(22.0))
    assert outlook.blocked(8.0) == 0.0
    assert outlook.blocked(32.0) == pytest.approx(outlook.within(23.0))
    assert outlook.held(32.0) == pytest.approx(0.5 * outlook.blocked(32.0))
    assert subject.typical_budget_ms == pytest.approx(10.0)


def test_what_must_be_left_for_the_fastest_arm_counts_against_the_slack() -> None:
    """The less of a budget may be waited away, the more requests a taken slot makes late."""
    blocked = []
    for needed_ms in (1.0, 6.0):
        subject = Forecast(1.0, _half)
        subject.needed_ms = needed_ms
        now_ms = _poisson(subject, gap_ms=1.0, n=400, budget_ms=8.0)
        blocked.append(_outlook(subject, now_ms).blocked(10.0))

    assert blocked[0] < 0.5 * blocked[1]


def test_a_clock_that_jumps_back_does_no_harm() -> None:
    """Times that contradict each other leave a rate that is finite and not negative."""
    subject = Forecast(1.0, _half)
    for now_ms in (10.0, 11.0, 3.0, 12.0, -5.0, 13.0):
        subject.arrived(20.0, now_ms)
        outlook = subject.look(now_ms)

    assert outlook is not None
    assert 0.0 <= outlook.within(10.0) < 1e3
    assert 0.0 < subject.rate < 1e3


def test_memory_stays_bounded() -> None:
    """However long requests come, only the recent ones are kept."""
    subject = Forecast(1.0, _half)

    _poisson(subject, gap_ms=0.1, n=20_000)

    assert len(subject._arrivals) < 5000
    assert len(subject._moments) <= 256
