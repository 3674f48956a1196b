"""INFaaS: the variant that fits the latency goal most tightly, passing over overloaded ones."""

from collections.abc import Sequence

from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies.heads import bid_of, on_arm, take_head
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest

_GAIN = 0.1


class Infaas:
    """After INFaaS (ATC 2021, sections 4 and 5).

    Model selection: among the variants whose profiled latency meets the goal, the one with the
    least slack; waiting time is not part of it. Scaling: a variant whose latency exceeds its
    profile by more than a ratio is overloaded and passed over for a while. The paper starts
    replicas then, or upgrades to a variant of more throughput; on hardware that is given, moving on
    to the next faster variant is what remains. Goals are per request; nothing is refused.
    """

    def __init__(
        self, *, overload_ratio: float = 1.5, rest_ms: float = 1000.0, share: float = 0.2
    ) -> None:
        self._overload_ratio = overload_ratio
        self._rest_ms = rest_ms
        """How long an overloaded variant is passed over."""
        self._share = share
        """Of the budget that a variant's latency may take."""
        self._ratios: dict[str, float] = {}
        self._rested_ms: dict[str, float] = {}

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        left_ms = self._share * (request.deadline_ms - view.now_ms)
        fitting = [c for c in candidates if c.estimate.run_ms + c.estimate.reply_ms <= left_ms] or [
            fastest(candidates)
        ]
        rested = [c for c in fitting if self._rested_ms.get(c.arm.id, 0.0) <= view.now_ms]
        if rested:
            return bid_of(max(rested, key=_tightness))
        return bid_of(fastest(fitting))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return take_head(jobs, view, lambda job, candidates: on_arm(candidates, job.arm.id))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        arm_id = run.arm.id
        waited_ms = max(plan.wait_ms for plan in run.plans)
        ratio = (waited_ms + spent.run_ms) / max(run.estimate.run_ms, 1e-6)
        known = self._ratios.get(arm_id, 1.0)
        self._ratios[arm_id] = known + _GAIN * (ratio - known)
        if self._ratios[arm_id] > self._overload_ratio:
            self._rested_ms[arm_id] = now_ms + self._rest_ms
            self._ratios[arm_id] = 1.0


def _tightness(candidate: Candidate) -> tuple[float, float]:
    return candidate.estimate.run_ms, candidate.arm.accuracy or 0.0
