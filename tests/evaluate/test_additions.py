from collections.abc import Sequence
from itertools import pairwise

import pytest
from typing_extensions import override

from loadtests.evaluate.additions import ADDED, POLICIES, UNSEEN, Conformal, FreeProbes
from loadtests.evaluate.grid import scenario
from loadtests.evaluate.records import Condition
from loadtests.evaluate.tuning import fixed_arms
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.policy import Bid, Candidate, View
from mnv4serve.simulate.devices import Device
from mnv4serve.simulate.engine import simulate
from tests.router.policies.desk import Desk

CALM = Condition("prototype", "loose", "poisson", 0.3)


class Targets(Conformal):
    """Keeps the targets that it goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        self.seen.append(self.adapted(view).target)
        return super().bid(candidates, request, view)


@pytest.mark.parametrize(("took", "higher"), [(1000.0, True), (1.0, False)])
def test_the_target_follows_the_promises(*, took: float, higher: bool) -> None:
    """It rises with every promise that is broken and falls with every one that is kept."""
    policy = Targets()
    desk = Desk(policy)

    for turn in range(4):
        desk.serve(100.0, now_ms=1e5 * turn, took=took)

    assert all((after > before) is higher for before, after in pairwise(policy.seen))


def test_arms_that_never_run_are_probed() -> None:
    """Each of them once in so many runs of the device."""
    asked = scenario(CALM, seed=0, requests=600)
    probed: list[str] = []

    class Watched(FreeProbes):
        @override
        def spent(
            self, device: Device, arm_id: str, requests: Sequence[int], now_ms: float
        ) -> Spent:
            probed.append(arm_id)
            return super().spent(device, arm_id, requests, now_ms)

    only, *others = fixed_arms(CALM)
    simulate(asked, only.make, simulation=Watched)

    arm_ids = [str(dict(contender.settings)["arm_id"]) for contender in others]
    assert [probed.count(arm_id) for arm_id in arm_ids] == [600 // UNSEEN] * len(others)


@pytest.mark.parametrize("name", ADDED)
def test_every_addition_serves(name: str) -> None:
    """Each variant of the policy admits and runs on an idle device."""
    desk = Desk(POLICIES[name]())

    assert isinstance(desk.arrive(100.0), Job)
    assert desk.started().jobs
