"""SlackFit: buckets of latency, chosen by the slack of the request that is due first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.policies.heads import HOPELESS, Memoryless, bid_of
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest


@dataclass(frozen=True, slots=True)
class _Pair:
    """A subnet with a batch size."""

    arm: Arm
    batch: int
    latency_ms: float
    probability: float
    """That the head is on time."""


class SlackFit(Memoryless):
    """After SuperServe (NSDI 2025, section 4, SlackFit).

    Pairs of subnet and batch size are sorted into buckets evenly spaced by latency; when a slot
    falls free, the slack of the earliest deadline selects the bucket just below it, and of that the
    pair with the largest batch, then the most accurate. Subnets are arms here, all of them
    resident. The buckets are laid out anew from the latencies expected now, the paper's once from a
    profile; a `margin` on them can be tuned. Nothing is refused. The paper has one budget for all.
    """

    def __init__(
        self, *, buckets: int = 64, margin: float = 1.5, batches: Sequence[int] = (1,)
    ) -> None:
        self._buckets = buckets
        self._margin = margin
        self._batches = tuple(batches)

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(fastest(candidates))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        if head.tier:
            return Order(fastest(view.candidates(head)).arm, (head,))
        punctual = [job for job in jobs if not job.tier]
        pairs = self._pairs(punctual, view)
        pick = self._fit(pairs, head.deadline_ms - view.now_ms)
        if pick.probability < HOPELESS:
            return Order(shed=(head,))
        return Order(pick.arm, tuple(punctual[: pick.batch]))

    def _pairs(self, jobs: Sequence[Job], view: View) -> list[_Pair]:
        pairs = []
        for batch in self._batches:
            if batch > len(jobs):
                break
            for arm in jobs[0].arms:
                estimate = view.together(arm, jobs[:batch])
                latency_ms = self._margin * estimate.run_ms + estimate.reply_ms
                probability = view.probability(estimate, jobs[0])
                pairs.append(_Pair(arm, batch, latency_ms, probability))
        return pairs

    def _fit(self, pairs: Sequence[_Pair], slack_ms: float) -> _Pair:
        shortest = min(pairs, key=lambda pair: pair.latency_ms)
        longest_ms = max(pair.latency_ms for pair in pairs)
        width_ms = max((longest_ms - shortest.latency_ms) / self._buckets, 1e-9)
        below = math.ceil((slack_ms - shortest.latency_ms) / width_ms)
        fitting = [
            (bucket, pair.batch, pair.arm.accuracy or 0.0, pair.arm.id, pair)
            for pair in pairs
            if (bucket := math.ceil((pair.latency_ms - shortest.latency_ms) / width_ms)) < below
        ]
        return max(fitting)[-1] if fitting else shortest
