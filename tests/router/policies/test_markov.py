from itertools import pairwise

import pytest

from mnv4serve.router.policies.markov import DROP, Grid, Option, Workload, solve

OPTIONS = (Option(1.0, 1.0, 0.7), Option(3.0, 3.0, 0.8), Option(9.0, 9.0, 0.9))
SMALL_GRID = Grid(longest=6, bins=8)


def test_without_load_the_most_accurate_arm_that_fits_is_best() -> None:
    """When nobody is harmed, the slack alone decides."""
    table = solve(OPTIONS, Workload(1e-6, (20.0,)), SMALL_GRID)

    assert [table.action(1, slack_ms) for slack_ms in (0.5, 2.0, 5.0, 15.0)] == [DROP, 0, 1, 2]


def test_under_overload_the_arm_of_most_accuracy_a_millisecond_is_best() -> None:
    """Every slot time spent on one request is taken from another."""
    table = solve(OPTIONS, Workload(5.0, (20.0,)), SMALL_GRID)

    assert [table.action(6, slack_ms) for slack_ms in (2.0, 5.0, 15.0)] == [0, 0, 0]


@pytest.mark.parametrize("budgets_ms", [(36.0,), (4.0, 20.0, 120.0)])
def test_more_load_never_asks_for_a_slower_arm(budgets_ms: tuple[float, ...]) -> None:
    """In every state the chosen arm is at least as fast at a higher rate of requests."""
    tables = [solve(OPTIONS, Workload(rate, budgets_ms), SMALL_GRID) for rate in (0.05, 0.3, 1.0)]

    for lighter, heavier in pairwise(tables):
        for light, heavy in zip(lighter.actions, heavier.actions, strict=True):
            assert all(b <= a for a, b in zip(light, heavy, strict=True))


def test_longer_queues_act_as_the_longest_known() -> None:
    """Queues beyond the grid have an action as well."""
    table = solve(OPTIONS, Workload(0.3, (20.0,)), SMALL_GRID)

    assert table.action(100, 15.0) == table.action(6, 15.0)
