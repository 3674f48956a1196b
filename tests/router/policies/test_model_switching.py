from mnv4serve.router.policies.model_switching import ModelSwitching
from tests.router.policies.desk import LARGE, MIDDLE, SMALL, Desk

TABLE = ((0.05, LARGE), (0.2, MIDDLE), (1.0, SMALL))


def arm_at(rate_per_ms: float, policy: ModelSwitching) -> str:
    """What a request gets after a second of others at this rate."""
    desk = Desk(policy)
    gap_ms = 1.0 / rate_per_ms
    for turn in range(int(1000.0 * rate_per_ms)):
        desk.serve(500.0, now_ms=turn * gap_ms)
    return desk.serve(500.0, now_ms=1000.0)


def test_the_table_says_which_arm_serves_at_which_load() -> None:
    """Each rate has the arm that was measured best for it; beyond the last one, the last."""
    arms = [arm_at(rate, ModelSwitching(TABLE)) for rate in (0.02, 0.1, 0.5, 3.0)]

    assert arms == [LARGE, MIDDLE, SMALL, SMALL]


def test_queued_requests_switch_with_the_service() -> None:
    """The arm is that of the load at dispatch, whatever it was at arrival."""
    desk = Desk(ModelSwitching(TABLE, window_ms=100.0))
    for turn in range(60):
        desk.arrive(500.0, now_ms=float(turn))

    first = desk.started(60.0)
    desk.finish(first, now_ms=61.0)
    later = desk.started(400.0)

    assert first.arm.id == SMALL
    assert later.arm.id == LARGE


def test_without_a_table_utilisation_decides() -> None:
    """The most accurate arm that would keep the slot busy for less than its share."""
    arms = [arm_at(rate, ModelSwitching(utilisation=0.7)) for rate in (0.05, 0.15, 0.5)]

    assert arms == [LARGE, MIDDLE, SMALL]
