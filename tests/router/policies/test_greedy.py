from mnv4serve.router.policies.greedy import LateBinding, QueueAware, QueueBlind
from mnv4serve.router.refusal import Refusal
from tests.router.policies.desk import LARGE, MIDDLE, SMALL, Desk, reserved


def test_queue_blind_ignores_the_work_ahead() -> None:
    """Behind two long runs it still reserves the arm that only an idle device has time for."""
    desk = Desk(QueueBlind())

    arms = [reserved(desk.arrive(14.0)) for _ in range(3)]

    assert arms == [LARGE, LARGE, LARGE]


def test_queue_blind_takes_the_fastest_where_nothing_fits() -> None:
    """It refuses nothing."""
    assert reserved(Desk(QueueBlind()).arrive(0.5)) == SMALL


def test_queue_aware_takes_a_faster_arm_behind_others() -> None:
    """With the same budget the second request gets what still fits behind the first."""
    desk = Desk(QueueAware())

    arms = [reserved(desk.arrive(16.0)) for _ in range(2)]

    assert arms == [LARGE, MIDDLE]


def test_queue_aware_refuses_what_no_arm_can_make() -> None:
    """Once the work ahead takes the whole budget there is nothing left to reserve."""
    desk = Desk(QueueAware())
    desk.arrive(14.0)

    assert isinstance(desk.arrive(0.5), Refusal)


def test_queue_aware_keeps_to_what_it_reserved() -> None:
    """More time than was expected does not make it choose again."""
    desk = Desk(QueueAware())
    desk.arrive(14.0)
    second = reserved(desk.arrive(14.5))
    first = desk.started()
    desk.finish(first, now_ms=1.0)

    assert second != LARGE
    assert desk.started(1.0).arm.id == second


def test_late_binding_chooses_by_the_time_that_is_left() -> None:
    """The arm depends on when the slot falls free, not on the arrival."""
    desk = Desk(LateBinding())
    for budget_ms in (14.0, 15.0, 16.0):
        desk.arrive(budget_ms)

    first = desk.started(0.0)
    desk.finish(first, now_ms=9.0)
    second = desk.started(9.0)
    desk.finish(second, now_ms=13.5)
    third = desk.started(13.5)

    assert [run.arm.id for run in (first, second, third)] == [LARGE, MIDDLE, SMALL]
