from mnv4serve.router.policies.static import Static
from tests.router.policies.desk import LARGE, SMALL, Desk


def test_runs_its_arm_whatever_the_budget() -> None:
    """A static arm is no choice: neither a short nor a long budget changes it."""
    desk = Desk(Static(LARGE))

    assert [desk.serve(budget_ms, now_ms=100.0 * i) for i, budget_ms in enumerate((12, 500))] == [
        LARGE,
        LARGE,
    ]


def test_gives_up_what_cannot_be_on_time_any_more() -> None:
    """A job with less time left than its arm takes is dropped, so that others gain by it."""
    desk = Desk(Static(LARGE))
    desk.arrive(3.0)

    step = desk.dispatch()

    assert step.run is None
    assert len(step.shed) == 1


def test_falls_back_to_the_fastest_where_there_is_no_such_arm() -> None:
    """A name that the pool does not know leaves the fastest arm."""
    assert Desk(Static("elsewhere")).serve(100.0) == SMALL
