"""How often, and for how long still, a pool's other slots are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.router.occupancy import Occupancy


def _busy(slots: int, *, duration_ms: float, every_ms: float) -> Occupancy:
    subject = Occupancy(slots)
    for number in range(200):
        subject.ran(duration_ms, number * every_ms)
    return subject


def test_with_a_single_slot_there_are_no_others_to_wait_for() -> None:
    """What comes while it is taken has to wait, whatever was seen."""
    assert Occupancy(1).others_taken(5.0) == 1.0


def test_nothing_is_taken_until_runs_were_seen() -> None:
    """A start is no reason to fear that everything is busy."""
    assert Occupancy(2).others_taken(0.0) == 0.0


def test_a_slot_is_taken_for_as_much_of_the_time_as_runs_take() -> None:
    """Two slots, a run of 4 ms every 4 ms: each is taken half of the time, a quarter 2 ms on."""
    subject = _busy(2, duration_ms=4.0, every_ms=4.0)

    assert subject.others_taken(0.0) == pytest.approx(0.5, abs=0.01)
    assert subject.others_taken(2.0) == pytest.approx(0.25, abs=0.01)
    assert subject.others_taken(4.0) == 0.0


@given(
    st.lists(st.floats(0.0, 20.0), min_size=8, max_size=200),
    st.lists(st.floats(0.0, 20.0), min_size=1, max_size=5),
)
def test_runs_of_any_length_count_for_what_they_last_longer(
    durations_ms: list[float], beyond_ms: list[float]
) -> None:
    """The share of the time since the 64th last run began, however often somebody asks."""
    subject = Occupancy(2)
    for number, duration_ms in enumerate(durations_ms):
        subject.ran(duration_ms, 10.0 * number)
        if number % 3 == 0:
            subject.others_taken(1.0)

    recent_ms = durations_ms[-64:]
    span_ms = 10.0 * (len(recent_ms) - 1) + recent_ms[0]
    for limit_ms in beyond_ms:
        longer_ms = sum(max(0.0, duration_ms - limit_ms) for duration_ms in recent_ms)
        expected = min(1.0, longer_ms / (2 * span_ms))
        assert subject.others_taken(limit_ms) == pytest.approx(expected, abs=1e-9)


def test_all_others_have_to_be_taken_at_once() -> None:
    """With three slots two of them."""
    subject = _busy(3, duration_ms=4.0, every_ms=8.0 / 3.0)

    assert subject.others_taken(0.0) == pytest.approx(0.25, abs=0.01)


def test_runs_that_end_at_one_moment_do_no_harm() -> None:
    """A probability is at most one."""
    assert _busy(2, duration_ms=4.0, every_ms=0.0).others_taken(0.0) == 1.0
