from mnv4serve.router.policies.infaas import Infaas
from tests.router.policies.desk import LARGE, MIDDLE, SMALL, Desk, reserved


def test_takes_the_variant_with_the_least_slack() -> None:
    """Of the variants that meet the goal the slowest fits most tightly."""
    arms = [reserved(Desk(Infaas(share=1.0)).arrive(budget_ms)) for budget_ms in (2.0, 5.0, 50.0)]

    assert arms == [SMALL, MIDDLE, LARGE]


def test_waiting_is_not_part_of_the_goal() -> None:
    """Work that is ahead does not change the choice."""
    desk = Desk(Infaas(share=1.0))

    assert [reserved(desk.arrive(10.0)) for _ in range(4)] == [LARGE] * 4


def test_passes_over_an_overloaded_variant_and_comes_back_to_it() -> None:
    """A variant that took far longer than its profile rests for a while."""
    desk = Desk(Infaas(overload_ratio=1.5, rest_ms=1000.0, share=1.0))
    for turn in range(20):
        if desk.serve(500.0, now_ms=50.0 * turn, took=4.0) != LARGE:
            break

    assert reserved(desk.arrive(500.0, now_ms=300.0)) != LARGE
    assert reserved(desk.arrive(500.0, now_ms=9000.0)) == LARGE


def test_a_share_of_the_budget_leaves_room() -> None:
    """With half the budget as its goal it takes a variant half as slow."""
    assert reserved(Desk(Infaas(share=0.5)).arrive(10.0)) == MIDDLE
