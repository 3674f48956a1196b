"""Clockwork: one model, admission by predicted completion, nothing run that cannot be met."""

from collections import deque
from collections.abc import Sequence

from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies.heads import bid_of, on_arm
from mnv4serve.router.policy import Bid, Candidate, Order, View

_MEMORY = 10


class Clockwork:
    """After Clockwork (OSDI 2020, sections 4 and 5) with the one model that every request asks for.

    A run is expected to take as long as the longest of the last ten of its batch size, relative to
    what was expected of each because pictures differ. A request that cannot be done by its deadline
    is refused at arrival, one that cannot any more is dropped before it runs; of the measured
    batch sizes the largest that makes the tightest deadline is run.
    """

    def __init__(self, arm_id: str, *, batches: Sequence[int] = (1,), margin: float = 1.0) -> None:
        self._arm_id = arm_id
        self._batches = tuple(batches)
        self._margin = margin
        """Multiplies the longest recent run."""
        self._ratios: dict[int, deque[float]] = {}

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        candidate = on_arm(candidates, self._arm_id)
        worst_ms = candidate.estimate.wait_ms + self._worst_ms(candidate.estimate, 1)
        if view.now_ms + worst_ms > request.deadline_ms:
            return None
        return bid_of(candidate)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        arm = on_arm(view.candidates(head), self._arm_id).arm
        if head.tier:
            return Order(arm, (head,))
        left_ms = head.deadline_ms - view.now_ms
        punctual = [job for job in jobs if not job.tier]
        for batch in reversed(self._batches):
            members = tuple(punctual[:batch])
            if len(members) < batch:
                continue
            if self._worst_ms(view.together(arm, members), batch) <= left_ms:
                return Order(arm, members)
        return Order(shed=(head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        del now_ms
        ratio = spent.run_ms / max(run.estimate.run_ms, 1e-6)
        self._ratios.setdefault(len(run.jobs), deque(maxlen=_MEMORY)).append(ratio)

    def _worst_ms(self, estimate: Estimate, batch: int) -> float:
        ratio = max(self._ratios.get(batch, ()), default=1.0)
        return self._margin * ratio * estimate.run_ms + estimate.reply_ms
