from mnv4serve.router.jobs import Job
from mnv4serve.router.policies.clockwork import Clockwork
from mnv4serve.router.refusal import Refusal
from tests.router.policies.desk import MIDDLE, Desk, reserved


def test_refuses_what_would_end_too_late() -> None:
    """Three runs of 3 ms fit into 10 ms, a fourth does not."""
    desk = Desk(Clockwork(MIDDLE))

    kinds = [type(desk.arrive(10.0)) for _ in range(4)]

    assert kinds == [Job, Job, Job, Refusal]


def test_serves_the_one_model_only() -> None:
    """A long budget does not buy a better arm."""
    assert reserved(Desk(Clockwork(MIDDLE)).arrive(1000.0)) == MIDDLE


def test_expects_the_longest_of_the_last_ten_runs() -> None:
    """After one slow run it plans for such a one, until ten others have passed."""
    desk = Desk(Clockwork(MIDDLE))
    desk.serve(100.0, took=3.0)
    after_slow = desk.arrive(6.0, now_ms=100.0)
    for turn in range(10):
        desk.serve(100.0, now_ms=200.0 + 50.0 * turn)

    assert isinstance(after_slow, Refusal)
    assert isinstance(desk.arrive(6.0, now_ms=2000.0), Job)


def test_drops_what_can_no_longer_be_met() -> None:
    """A job whose latest start has passed is dropped before it runs."""
    desk = Desk(Clockwork(MIDDLE))
    desk.arrive(5.0)

    step = desk.dispatch(3.0)

    assert step.run is None
    assert len(step.shed) == 1
