"""Our policy with one more feature each: what was tried, to see whether it would earn a place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from typing_extensions import override

from loadtests.evaluate.ablations import Around
from mnv4serve.domain import Arm
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.planner import Rules
from mnv4serve.router.policies import MakePolicy
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policy import Bid, Candidate, Order, Policy, View
from mnv4serve.simulate.devices import Device
from mnv4serve.simulate.engine import Simulation
from mnv4serve.simulate.scenario import Offered, Scenario

STEP = 0.005
"""Of the adapted target, for each promise that was kept or broken."""
UNSEEN = 64
"""Runs of a device after which an arm that had none of them is probed."""


class Conformal(Around):
    """Moves the probability that a promise needs until the promised share of them is kept.

    Adaptive conformal inference (Gibbs and Candes, 2021, equation 2), with the router's own
    distribution as the score.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shift = 0.0
        self._target = 0.0

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        return super().bid(candidates, request, self.adapted(view))

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return super().order(jobs, self.adapted(view))

    @override
    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        super().observe_run(run, spent, now_ms=now_ms)
        for job, plan in zip(run.jobs, run.plans, strict=True):
            if job.tier == 0:
                late = now_ms + plan.reply_ms > job.deadline_ms
                self._shift += STEP * (late - (1.0 - self._target))

    def adapted(self, view: View) -> View:
        """What the policy is shown instead."""
        self._target = view.target
        return replace(view, target=min(0.999, max(0.5, view.target + self._shift)))


class FreeProbes(Simulation):
    """Every arm that has not run for a while is measured, in no time and at no cost.

    More than probes in idle time could bring: those take a slot for as long as the arm runs.
    """

    def __init__(
        self, scenario: Scenario, make_policy: MakePolicy, rules: Rules, offered: Offered
    ) -> None:
        super().__init__(scenario, make_policy, rules, offered)
        self._unseen: dict[tuple[int, str], int] = {}
        """Runs of the device since the arm's last one."""

    @override
    def ran(self, device: Device, run: Run) -> None:
        for arm in device.pool.arms:
            key = device.index, arm.id
            self._unseen[key] = 0 if arm is run.arm else self._unseen.get(key, 0) + 1
            if self._unseen[key] >= UNSEEN:
                self._unseen[key] = 0
                self._probe(device, arm, run.jobs[0])

    def _probe(self, device: Device, arm: Arm, job: Job) -> None:
        predictor = device.pool.predictor
        expected = predictor.expect(arm, job.picture, wait_ms=0.0)
        predictor.observe(
            arm, [job.picture], expected, self.spent(device, arm.id, [job.id], self.end_ms)
        )


CONFORMAL, PROBES = "with conformal adaptation", "with free probes"
ADDED = (CONFORMAL, PROBES)
POLICIES: Mapping[str, Callable[..., Policy]] = {CONFORMAL: Conformal, PROBES: Priced}
SIMULATIONS: Mapping[str, type[Simulation]] = {PROBES: FreeProbes}
