"""The policy of this service."""

import math
from collections.abc import Sequence

from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policy import (
    Bid,
    Candidate,
    Order,
    View,
    fastest,
    most_accurate_on_time,
)
from mnv4serve.router.predict import Spent

HOPELESS = 0.02
"""Below this probability a job gives way, at dispatch, to work that can still be on time."""


class Priced:
    """The most accurate arm that is likely on time and harms no other job."""

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request
        pick = most_accurate_on_time(candidates, target=view.target)
        return None if pick is None else Bid(pick, pick.arm.accuracy or 0.0)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        if _gives_way(head, candidates, view):
            return Order(shed=(head,))
        limit_ms = _limit_ms(head, view)
        harmless = [
            c for c in candidates if c.estimate.slot_ms <= limit_ms or c.arm.id == head.arm.id
        ]
        pick = most_accurate_on_time(harmless, target=view.target) or fastest(candidates)
        return Order(pick.arm, (head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        pass

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass


def _gives_way(job: Job, candidates: Sequence[Candidate], view: View) -> bool:
    if job.tier or view.ledger.waiting(0) <= 1:
        return False
    return max(candidate.on_time_probability for candidate in candidates) < HOPELESS


def _limit_ms(job: Job, view: View) -> float:
    """How long the job may take a slot without harm to those that wait; degraded work always is."""
    if view.ledger.depth <= 1:
        return math.inf
    if job.tier or view.ledger.waiting(1):
        return job.expected_ms
    return job.expected_ms + view.ledger.spare_ms(view.now_ms, job.expected_ms, without=job.id)
