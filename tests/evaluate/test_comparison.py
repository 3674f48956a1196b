from dataclasses import replace

import pytest

from loadtests.evaluate.comparison import Standing, best_static, gaps, verdicts
from loadtests.evaluate.records import Bound
from tests.evaluate.made_up import CONDITION, runs


@pytest.mark.parametrize(
    ("rival", "standing"),
    [
        (0.790, Standing.AHEAD),
        (0.802, Standing.HOLDS),
        (0.810, Standing.FAILS),
    ],
)
def test_standing_follows_the_interval(rival: float, standing: Standing) -> None:
    """Worse by less than the margin is allowed, worse by more is said so."""
    found = verdicts([*runs("priced", 0.8), *runs("slackfit", rival)])

    assert [verdict.standing for verdict in found] == [standing]


def test_too_few_runs_leave_it_open() -> None:
    """Where parts differ wildly the interval decides nothing."""
    wild = tuple(0.8 + 0.05 * (-1) ** place for place in range(10))
    theirs = [replace(run, blocks=wild) for run in runs("infaas", 0.8)]

    found = verdicts([*runs("priced", 0.8), *theirs])

    assert found[0].standing is Standing.OPEN


def test_the_best_fixed_arm_is_chosen_for_each_condition() -> None:
    """Hindsight may pick another arm at another load."""
    busy = replace(CONDITION, load=2.0)
    results = [
        *runs("static:a", 0.7),
        *runs("static:b", 0.8),
        *runs("static:a", 0.7, condition=busy),
        *runs("static:b", 0.5, condition=busy),
    ]

    assert best_static(results, CONDITION) == "static:b"
    assert best_static(results, busy) == "static:a"


def test_only_the_best_fixed_arm_is_a_rival() -> None:
    """Beating the others is no merit."""
    found = verdicts([*runs("priced", 0.8), *runs("static:a", 0.7), *runs("static:b", 0.75)])

    assert [verdict.rival for verdict in found] == ["static:b"]


def test_gap_closed_is_the_way_from_the_fixed_arm_to_the_bound() -> None:
    """Half way is one half."""
    results = [*runs("priced", 0.8), *runs("static:a", 0.75)]

    found = gaps(results, [Bound(CONDITION, seed, 0.85) for seed in range(3)])

    assert [gap.closed for gap in found] == pytest.approx([0.5])


def test_layers_are_compared_apart() -> None:
    """A run on stub devices is no rival of a simulated one."""
    results = [*runs("priced", 0.8), *runs("slackfit", 0.9, layer="stubs")]

    assert verdicts(results) == []
