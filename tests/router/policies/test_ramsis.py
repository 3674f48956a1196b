from mnv4serve.router.policies.markov import Grid
from mnv4serve.router.policies.ramsis import Ramsis
from tests.router.policies.desk import LARGE, SMALL, Desk

GRID = Grid(longest=6, bins=8)


def test_a_lull_is_used_for_a_larger_model() -> None:
    """At a low rate a request with much slack gets the most accurate arm."""
    desk = Desk(Ramsis((30.0,), grid=GRID))
    arms = [desk.serve(30.0, now_ms=400.0 * turn) for turn in range(5)]

    assert arms[-1] == LARGE


def test_a_crowd_gets_the_fast_one() -> None:
    """At a rate that only the fast arm sustains, behind others, it is chosen despite the slack."""
    desk = Desk(Ramsis((30.0,), grid=GRID))
    for turn in range(60):
        desk.arrive(30.0, now_ms=0.8 * turn)
        if turn % 8 == 0:
            desk.finish(desk.started(0.8 * turn), now_ms=0.8 * turn)

    assert desk.started(48.0).arm.id == SMALL


def test_learns_the_budgets_it_was_not_given() -> None:
    """Before it has seen enough of them it is greedy, afterwards a table decides."""
    policy = Ramsis(grid=GRID)
    desk = Desk(policy)
    for turn in range(80):
        desk.serve(30.0, now_ms=2.0 * turn)

    assert policy.budgets_ms == (30.0,) * len(policy.budgets_ms) != ()


def test_what_no_arm_can_make_is_given_up() -> None:
    """A late head takes no time from the others."""
    desk = Desk(Ramsis((30.0,), grid=GRID))
    for turn in range(3):
        desk.serve(30.0, now_ms=50.0 * turn)
    desk.arrive(0.4, now_ms=200.0)

    assert len(desk.dispatch(200.0).shed) == 1
