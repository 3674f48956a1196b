"""How many replicas are wanted for the work that is offered."""

from types import SimpleNamespace

import pytest

from mnv4serve.serving.autoscaling import Load, Scaling

POLICY = Scaling(target_busy=0.6, target_wait_ms=5.0)


@pytest.mark.parametrize(
    ("demand", "current", "wanted"),
    [
        pytest.param(0.6, 2, 2, id="as busy as it should be"),
        pytest.param(0.9, 2, 3, id="too busy"),
        pytest.param(3.0, 2, 10, id="most was refused"),
        pytest.param(0.1, 4, 1, id="hardly anything to do"),
        pytest.param(0.0, 4, 0, id="nothing to do"),
    ],
)
def test_replicas_follow_the_slot_time_that_is_asked_for(
    demand: float, current: int, wanted: int
) -> None:
    """Executed and refused work together, over what one replica should do."""
    loads = [Load(demand, 0.0)] * current

    assert POLICY.wanted(loads, current=current) == wanted


def test_a_long_wait_asks_for_one_more() -> None:
    """Work that is bunched needs more than its mean."""
    loads = [Load(0.3, 6.0)] * 2

    assert POLICY.wanted(loads, current=2) == 3
    assert Scaling(target_busy=0.6, target_wait_ms=7.0).wanted(loads, current=2) == 1


def test_a_pool_that_should_idle_more_gets_more() -> None:
    """The share of the time that a replica works is configured."""
    loads = [Load(0.6, 0.0)] * 2

    assert Scaling(target_busy=0.3, target_wait_ms=5.0).wanted(loads, current=2) == 4


def test_without_reports_nothing_changes() -> None:
    """A pool that has just started is left as it is."""
    assert POLICY.wanted([], current=3) == 3


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        pytest.param(0.9, 3, id="as wanted"),
        pytest.param(0.0, 1, id="never fewer than configured"),
        pytest.param(50.0, 4, id="never more"),
    ],
)
def test_serves_context_is_read(demand: float, wanted: int) -> None:
    """The replicas' reports arrive by metric and replica; the bounds are Serve's."""
    context = SimpleNamespace(
        aggregated_metrics={
            "demand": {"a": demand, "b": demand},
            "wait_ms": {"a": 0.0, "b": 0.0},
        },
        current_num_replicas=2,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
    )

    assert POLICY(context) == (wanted, {})
