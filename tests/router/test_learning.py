import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.router.learning import LONG, SHORT, Drift, Recent, RunningQuantile

ratios = st.floats(0.05, 20.0)


def _recent(added: list[float], prior: tuple[float, ...] = (1.0,)) -> Recent:
    recent = Recent(prior)
    for ratio in added:
        recent.add(ratio)
    return recent


def _share(values: list[float], limit: float) -> float:
    return sum(value <= limit for value in values) / len(values)


@given(st.lists(ratios, max_size=700), ratios)
def test_share_is_the_mean_of_both_windows(added: list[float], limit: float) -> None:
    """The share of ratios up to a limit is the mean of its shares in the last 64 and 512."""
    recent = _recent(added)

    history = [1.0] * LONG + added
    expected = (_share(history[-SHORT:], limit) + _share(history[-LONG:], limit)) / 2
    assert recent.share_up_to(limit) == pytest.approx(expected)


@given(st.lists(ratios, max_size=700), st.floats(0.01, 1.0))
def test_quantile_is_the_smallest_ratio_that_reaches_the_share(
    added: list[float], share: float
) -> None:
    """No smaller ratio that was seen reaches the share, and the quantile itself does."""
    recent = _recent(added)

    quantile = recent.quantile(share)

    assert recent.share_up_to(quantile) >= share
    history = ([1.0] * LONG + added)[-LONG:]
    assert all(recent.share_up_to(r) < share for r in history if r < quantile)


@given(st.lists(ratios, min_size=1, max_size=40), st.floats(0.5, 1.0))
def test_quantile_is_the_same_however_often_it_was_asked_for(
    added: list[float], share: float
) -> None:
    """It is looked for near where it was last, which must not show."""
    asked = _recent([])
    for ratio in added:
        asked.add(ratio)
        asked.quantile(0.9)

    assert asked.quantile(share) == _recent(added).quantile(share)


def test_quantile_is_found_anew_after_a_ratio_was_added() -> None:
    """A quantile that was asked for before does not outlive new evidence."""
    recent = _recent([])
    before = recent.quantile(0.99)

    recent.add(7.0)

    assert (before, recent.quantile(0.999)) == (1.0, 7.0)


@given(st.lists(ratios, max_size=100), st.floats(0.0, 5.0), st.floats(-1.0, 30.0))
def test_share_after_a_wait_weighs_every_wait(
    added: list[float], wait: float, limit: float
) -> None:
    """Run and wait are convolved: each typical wait counts with its weight."""
    runs, waits = _recent(added), _recent(list(reversed(added)))

    share = runs.share_after(waits, wait, limit)

    points = waits.points()
    total = sum(weight * runs.share_up_to(limit - wait * ratio) for weight, ratio in points)
    assert share == pytest.approx(total / sum(weight for weight, _ in points))
    assert 0.0 <= share <= 1.0


def test_points_stand_for_the_distribution() -> None:
    """The points' mean is the distribution's mean and the last lies in its tail."""
    generator = random.Random(5)
    added = [generator.uniform(0.5, 1.5) for _ in range(600)]

    points = _recent(added).points()

    mean = sum(weight * ratio for weight, ratio in points) / sum(weight for weight, _ in points)
    assert mean == pytest.approx(1.0, abs=0.05)
    assert points[0][1] > 1.4


def test_forgetting_brings_the_prior_back() -> None:
    """When everything was forgotten the distribution is the prior again."""
    recent = _recent([9.0] * LONG, prior=(1.0, 2.0))

    for _ in range(LONG):
        recent.forget()

    assert recent.share_up_to(1.0) == 0.5
    assert recent.share_up_to(2.0) == 1.0


def test_drift_reaches_a_lasting_change() -> None:
    """A ratio that stays is learnt completely."""
    drift = Drift(gain=0.1)

    for _ in range(100):
        drift.follow(1.7)

    assert drift.factor == pytest.approx(1.7, rel=0.01)


def test_drift_with_a_leak_stays_short_of_the_change() -> None:
    """A leak draws the factor back towards one."""
    drift = Drift(gain=0.02, leak=0.005)

    for _ in range(2000):
        drift.follow(2.0)

    assert 1.5 < drift.factor < 2.0


@given(st.floats(0.0, 1e9))
def test_one_outlier_moves_a_drift_little(ratio: float) -> None:
    """However far off a single run is, the factor moves by at most the gain's share of 4."""
    drift = Drift(gain=0.1)

    drift.follow(ratio)

    assert drift.factor * (1 + 1e-9) >= 4.0**-0.1
    assert drift.factor <= 4.0**0.1 * (1 + 1e-9)


def test_fading_gives_up_a_share() -> None:
    """Fading completely returns to one."""
    drift = Drift(gain=1.0)
    drift.follow(3.0)

    drift.fade(1.0)

    assert drift.factor == 1.0


def test_a_drift_that_is_hardly_believed_moves_at_once() -> None:
    """The first ratios count as a mean does, with where it began as one of them; then the gain."""
    slow, eager = Drift(gain=0.05), Drift(gain=0.05, believed=1)

    for _ in range(3):
        slow.follow(1.2)
        eager.follow(1.2)
    assert eager.factor == pytest.approx(1.2**0.75)
    assert slow.factor < 1.03

    for _ in range(50):
        eager.follow(1.2)
    settled = eager.factor
    eager.follow(1.5 * settled)
    assert eager.factor / settled == pytest.approx(1.5**0.05)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_running_quantile_settles_at_the_quantile(share: float) -> None:
    """After many durations about the wanted share of them lies below the value."""
    generator = random.Random(3)
    tracked = RunningQuantile(0.0, share=share)

    for _ in range(3000):
        tracked.follow(generator.expovariate(1.0))
    values = []
    for _ in range(3000):
        tracked.follow(generator.expovariate(1.0))
        values.append(tracked.value_ms)

    below = sum(generator.expovariate(1.0) <= value for value in values) / len(values)
    assert below == pytest.approx(share, abs=0.07)
