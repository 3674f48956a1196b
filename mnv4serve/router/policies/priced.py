"""The policy of this service: accuracy on time, less what the slot's time is worth to others."""

import math
from collections.abc import Sequence

from mnv4serve.domain import Arm
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.market import Market
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest

HOPELESS = 0.02
"""Below this probability a job gives way, at dispatch, to work that can still be on time."""
TRY = 0.5
"""From this probability on a request is tried that cannot be promised an answer on time."""


class Priced:
    """Takes the arm worth most, where each costs the time that it keeps from other requests."""

    def __init__(self) -> None:
        self.market = Market()

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        likely = [c for c in candidates if c.on_time_probability >= view.target]
        if likely:
            pick = max(likely, key=self._worth)
        else:
            pick = _squeezed(fastest(candidates), request, view)
            if pick.on_time_probability < view.target:
                pick = max(candidates, key=self._worth)
                if pick.on_time_probability < TRY or self._worth(pick) <= 0.0:
                    return None
        least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
        if view.ledger.harms(view.now_ms, request.deadline_ms, least_ms):
            return None
        return Bid(pick, self._worth(pick), pick.on_time_probability >= view.target)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        best = max(candidate.on_time_probability for candidate in candidates)
        if best < HOPELESS and head.tier == 0 and len(jobs) > 1:
            return Order(shed=(head,))
        self.market.look(jobs, view)
        likely = [c for c in candidates if c.on_time_probability >= view.target]
        alone = self._best_alone(head, likely or candidates, candidates, view)
        if not likely:
            return Order(alone.arm, (head,))
        if len(jobs) > 1 and view.predictor.batch_sizes:
            return self._best_batch(jobs, alone, view)
        return Order(alone.arm, (head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        self.market.arrived(request, now_ms)

    def observe_run(self, run: Run, _spent: Spent, *, now_ms: float) -> None:
        self.market.ran(run.estimate.slot_ms, now_ms)

    def _worth(self, candidate: Candidate) -> float:
        return _value(candidate) - self.market.price * candidate.estimate.slot_ms

    def _best_alone(
        self,
        head: Job,
        among: Sequence[Candidate],
        candidates: Sequence[Candidate],
        view: View,
    ) -> Candidate:
        """Of some candidates the best that makes no other job late; of equals the fastest."""
        least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
        limit_ms = least_ms + view.ledger.spare_ms(view.now_ms, least_ms, without=(head.id,))
        best, best_worth = None, (-math.inf, 0.0)
        for candidate in among:
            slot_ms = candidate.estimate.slot_ms
            worth = _value(candidate) - self.market.cost(slot_ms), -slot_ms
            if slot_ms <= limit_ms and worth > best_worth:
                best, best_worth = candidate, worth
        return best or fastest(among)

    def _best_batch(self, jobs: Sequence[Job], alone: Candidate, view: View) -> Order:
        """The first job alone, or with those behind it where that is worth more.

        A batch earns what all its members do; a member that is served apart would have earned what
        the first one does alone.
        """
        best = Order(alone.arm, (jobs[0],))
        apart = max(0.0, self._worth(alone))
        best_value = _value(alone) - self.market.cost(alone.estimate.slot_ms)
        for size in view.predictor.batch_sizes:
            members = tuple(jobs[:size])
            if len(members) < size:
                break
            for arm in _common(members):
                estimate = view.together(arm, members)
                cost = self.market.cost(estimate.slot_ms) + (size - 1) * apart
                if size * _accuracy(arm) - cost <= best_value:
                    continue
                on_time = [view.probability(estimate, job) for job in members]
                value = sum(on_time) * _accuracy(arm) - cost
                kept = min(on_time) >= view.target and _harmless(members, estimate.slot_ms, view)
                if kept and value > best_value:
                    best, best_value = Order(arm, members), value
        return best


def _squeezed(candidate: Candidate, request: Request, view: View) -> Candidate:
    """How the candidate would do if all work ahead of it took its fastest arm."""
    wait_ms = view.ledger.squeezed_wait_ms(view.now_ms, request.deadline_ms)
    run = candidate.estimate.after(wait_ms)
    left_ms = request.deadline_ms - view.now_ms
    return Candidate(candidate.arm, run, view.predictor.squeezed_probability(run, left_ms))


def _harmless(members: Sequence[Job], slot_ms: float, view: View) -> bool:
    """Whether a batch makes no other job later than its members would apart."""
    least_ms = min(slot_ms, sum(job.least_ms for job in members))
    return slot_ms <= least_ms + view.ledger.spare_ms(
        view.now_ms, least_ms, without=[job.id for job in members]
    )


def _common(members: Sequence[Job]) -> list[Arm]:
    """The arms that every member may get."""
    return [
        arm for arm in members[0].arms if all(any(arm is one for one in j.arms) for j in members)
    ]


def _value(candidate: Candidate) -> float:
    """The accuracy to expect, a late answer being worth nothing."""
    return candidate.on_time_probability * _accuracy(candidate.arm)


def _accuracy(arm: Arm) -> float:
    return arm.accuracy or 0.0
