"""How many replicas are wanted for the work that is offered."""

from types import SimpleNamespace

import pytest

from mnv4serve.serving.autoscaling import TARGET_WAIT_MS, Load, replicas_wanted, scale


@pytest.mark.parametrize(
    ("demand", "current", "wanted"),
    [
        pytest.param(0.6, 2, 2, id="as busy as it should be"),
        pytest.param(0.9, 2, 3, id="too busy"),
        pytest.param(3.0, 2, 10, id="most was refused"),
        pytest.param(0.1, 4, 1, id="hardly anything to do"),
        pytest.param(0.0, 4, 1, id="nothing to do"),
    ],
)
def test_replicas_follow_the_slot_time_that_is_asked_for(
    demand: float, current: int, wanted: int
) -> None:
    """Executed and refused work together, over what one replica should do."""
    loads = [Load(demand, 0.0)] * current

    assert replicas_wanted(loads, current=current, lowest=1, highest=10) == wanted


def test_a_long_wait_asks_for_one_more() -> None:
    """Work that is bunched needs more than its mean."""
    loads = [Load(0.3, TARGET_WAIT_MS + 1.0)] * 2

    assert replicas_wanted(loads, current=2, lowest=1, highest=10) == 3


def test_the_bounds_hold() -> None:
    """Never fewer or more than configured."""
    idle, flooded = [Load(0.0, 0.0)], [Load(50.0, 1e3)]

    assert replicas_wanted(idle, current=3, lowest=2, highest=5) == 2
    assert replicas_wanted(flooded, current=3, lowest=2, highest=5) == 5


def test_without_reports_nothing_changes() -> None:
    """A pool that has just started is left as it is."""
    assert replicas_wanted([], current=3, lowest=1, highest=5) == 3


def test_serves_context_is_read() -> None:
    """The replicas' reports arrive by metric and replica."""
    context = SimpleNamespace(
        aggregated_metrics={"demand": {"a": 0.9, "b": 0.9}, "wait_ms": {"a": 0.0, "b": 0.0}},
        current_num_replicas=2,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
    )

    assert scale(context) == (3, {})
