from pathlib import Path

import pytest

from loadtests.evaluate import grid
from loadtests.evaluate.grid import Bench, full, quick, register, scenario
from loadtests.evaluate.records import Condition
from mnv4serve.simulate.scenario import offer
from mnv4serve.simulate.tables import load_table


def test_the_whole_grid_covers_what_is_claimed() -> None:
    """Loads from 0.3 to 2, every kind of budgets, and every fault."""
    plan = full(100, 3)
    loads = {condition.load for condition in plan.conditions}

    assert min(loads) <= 0.3
    assert max(loads) >= 2.0
    assert {c.budgets for c in plan.conditions} >= {"tight", "mixed", "loose", "equal"}
    assert {c.fault for c in plan.conditions} == {"none", *grid.FAULTS}


@pytest.mark.parametrize("condition", quick(100, 1).conditions, ids=lambda c: c.label)
def test_every_condition_is_a_scenario(condition: Condition) -> None:
    """Names of budgets, arrivals and faults mean something to the simulator."""
    asked = scenario(condition, seed=0, requests=10)

    assert asked.requests == 10
    assert len(asked.cluster.devices) == (2 if condition.fault == grid.IN_PAIRS else 1)


def test_a_stretched_bench_has_longer_budgets() -> None:
    """Requests keep their order and proportions when everything is slower."""
    register("slow", Bench(load_table("prototype"), stretch=4.0))
    quick_ms = offer(scenario(Condition("prototype", "mixed", "poisson", 1.0), seed=2, requests=50))
    slow_ms = offer(scenario(Condition("slow", "mixed", "poisson", 1.0), seed=2, requests=50))

    assert slow_ms.budgets_ms == pytest.approx(4.0 * quick_ms.budgets_ms)


def test_batches_pay_on_the_table_that_has_them() -> None:
    """Eight requests together take less than eight times as long as one, and rivals may use it."""
    kind = scenario(Condition(grid.BATCHED, "mixed", "poisson", 1.0), seed=0, requests=5)
    device = kind.cluster.devices[0]
    arm_id = device.arms[0].id

    assert device.service_ms(arm_id, 8) < 0.7 * 8 * device.service_ms(arm_id)


def test_an_absent_trace_is_left_out_and_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The report tells which arrivals were not there."""
    monkeypatch.setattr(grid, "TRACE_FILES", {"azure": tmp_path / "absent.csv.gz"})

    notes = grid.missing_traces()

    assert len(notes) == 1
    assert "azure" in notes[0]
    assert all(condition.arrivals != "azure" for condition in full(100, 1).conditions)
