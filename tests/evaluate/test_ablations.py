from collections.abc import Sequence

import pytest

from loadtests.evaluate.ablations import (
    ABLATIONS,
    Forced,
    WithoutLateBinding,
    WithoutQueue,
    WithoutShedding,
    WithoutUncertainty,
)
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest
from mnv4serve.router.refusal import Refusal
from tests.router.policies.desk import LARGE, SMALL, Desk, reserved


class Watching:
    """Reserves the fastest, runs the most accurate or drops, and keeps what it was shown."""

    def __init__(self, *, drops: bool = False) -> None:
        self.drops = drops
        self.chances: list[float] = []
        self.depths: list[int] = []

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request
        self.chances += [candidate.on_time_probability for candidate in candidates]
        self.depths.append(view.ledger.depth)
        return None if self.drops else Bid(fastest(candidates), 1.0)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        self.chances += [candidate.on_time_probability for candidate in view.candidates(jobs[0])]
        self.depths.append(len(jobs) - 1)
        return Order(shed=(jobs[0],)) if self.drops else Order(view.arms[-1], tuple(jobs))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass


def test_without_the_queue_every_request_is_alone() -> None:
    """Neither admission nor dispatch sees what else is waiting."""
    policy = WithoutQueue()
    policy.inner = watching = Watching()
    desk = Desk(policy)
    for _ in range(3):
        desk.arrive(50.0)

    desk.dispatch()

    assert set(watching.depths) == {0}


def test_without_uncertainty_chances_are_yes_or_no() -> None:
    """A budget near an arm's time is met for certain, or certainly not."""
    policy = WithoutUncertainty()
    policy.inner = watching = Watching()
    desk = Desk(policy)
    desk.arrive(9.2)

    desk.dispatch()

    assert set(watching.chances) <= {0.0, 1.0}


def test_without_late_binding_the_reservation_is_run() -> None:
    """One request on the arm that admission chose, whatever would be better now."""
    policy = WithoutLateBinding()
    policy.inner = Watching()
    desk = Desk(policy)
    for _ in range(2):
        desk.arrive(50.0)

    run = desk.started()

    assert run.arm.id == SMALL
    assert len(run.jobs) == 1


def test_without_shedding_everything_is_taken_and_run() -> None:
    """What would have been refused and dropped gets the fastest arm."""
    policy = WithoutShedding()
    policy.inner = Watching(drops=True)
    desk = Desk(policy)

    assert reserved(desk.arrive(0.2)) == SMALL
    assert desk.started().arm.id == SMALL


def test_forced_arms_are_spread_and_run_as_reserved() -> None:
    """Chance picks the arm, and nothing is refused for it."""
    desk = Desk(Forced(seed=1))
    arms = [desk.serve(100.0, now_ms=100.0 * turn) for turn in range(30)]

    assert set(arms) >= {SMALL, LARGE}
    assert not isinstance(desk.arrive(0.1, now_ms=5000.0), Refusal)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_serves(name: str) -> None:
    """Each variant of the policy admits and runs on an idle device."""
    desk = Desk(ABLATIONS[name]())

    assert isinstance(desk.arrive(100.0), Job)
    assert desk.started().jobs
