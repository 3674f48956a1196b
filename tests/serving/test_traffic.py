"""What is remembered of finished requests, and for how long."""

from dataclasses import replace

import pytest

from mnv4serve.domain import Outcome, Served, Stages, Terms, Transport
from mnv4serve.serving.traffic import REFUSALS, WINDOW, WINDOW_MS, Traffic
from tests.fakes import ARM, PLAN, UNCERTIFIED


def answered(total_ms: float = 3.0, outcome: Outcome = Outcome.ON_TIME) -> Served:
    stages = Stages(wait_ms=0.5, decode_ms=1.0, service_ms=1.0, total_ms=total_ms)
    return Served("request", Transport.HTTP, Terms(5.0), outcome, PLAN, stages)


def refused(reason: str = "busy", outcome: Outcome = Outcome.REFUSED) -> Served:
    return Served("request", Transport.GRPC, Terms(5.0), outcome, refused_reason=reason)


def test_nothing_is_known_before_the_first_request() -> None:
    """Shares of nothing are unknown, not zero."""
    recent = Traffic().recent(now_ms=5.0)

    assert (recent.requests, recent.span_ms, dict(recent.arms)) == (0, 0.0, {})
    assert (recent.on_time_share, recent.p50_ms, recent.p99_ms) == (None, None, None)
    assert recent.refusals == ()


def test_the_on_time_share_is_of_all_that_was_offered() -> None:
    """A refusal and a late answer both count as missed."""
    traffic = Traffic()
    for served in (answered(), answered(), answered(9.0, Outcome.LATE), refused()):
        traffic.observe(served, now_ms=0.0)

    recent = traffic.recent(now_ms=0.0)

    assert recent.requests == 4
    assert recent.on_time_share == 0.5


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.CANCELLED])
def test_what_could_not_be_answered_does_not_count(outcome: Outcome) -> None:
    """Neither a malformed request nor one whose caller left spoils the share."""
    traffic = Traffic()
    traffic.observe(answered(), now_ms=0.0)

    traffic.observe(refused("bad_image", outcome), now_ms=0.0)

    recent = traffic.recent(now_ms=0.0)
    assert (recent.requests, recent.on_time_share, recent.refusals) == (1, 1.0, ())


def test_arms_share_the_answers() -> None:
    """Traffic shares add up to one and on-time shares are each arm's own."""
    traffic = Traffic()
    other = replace(answered(9.0, Outcome.LATE), plan=replace(PLAN, arm=UNCERTIFIED))
    for served in (answered(), answered(), answered(8.0, Outcome.LATE), other):
        traffic.observe(served, now_ms=0.0)

    arms = traffic.recent(now_ms=0.0).arms

    assert arms[ARM.id].traffic_share == 0.75
    assert arms[ARM.id].on_time_share == pytest.approx(2 / 3)
    assert (arms[UNCERTIFIED.id].traffic_share, arms[UNCERTIFIED.id].on_time_share) == (0.25, 0.0)


def test_percentiles_are_of_answers_only() -> None:
    """A refusal takes no time and must not make the service look fast."""
    traffic = Traffic()
    for total_ms in range(1, 101):
        traffic.observe(answered(float(total_ms)), now_ms=0.0)
        traffic.observe(refused(), now_ms=0.0)

    recent = traffic.recent(now_ms=0.0)

    assert (recent.p50_ms, recent.p99_ms) == (51.0, 100.0)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    """A service that was busy an hour ago is not busy now; refusals say how old they are."""
    traffic = Traffic()
    traffic.observe(refused(), now_ms=0.0)
    traffic.observe(answered(), now_ms=100.0)

    recent = traffic.recent(now_ms=WINDOW_MS + 50.0)

    assert (recent.requests, recent.span_ms) == (1, WINDOW_MS - 50.0)
    assert [one.ago_ms for one in recent.refusals] == [WINDOW_MS + 50.0]


def test_memory_is_bounded_and_the_newest_refusal_comes_first() -> None:
    """However many requests there were, the last ones count."""
    traffic = Traffic()
    for index in range(3 * WINDOW):
        traffic.observe(refused(f"reason_{index}"), now_ms=float(index))

    recent = traffic.recent(now_ms=3.0 * WINDOW)

    assert recent.requests == WINDOW
    assert len(recent.refusals) == REFUSALS
    assert recent.refusals[0].reason == f"reason_{3 * WINDOW - 1}"
    assert recent.refusals[0].ago_ms == 1.0
