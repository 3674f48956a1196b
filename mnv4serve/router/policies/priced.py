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
        pick = self._best_likely(candidates, view.target)
        if pick is None:
            pick = _squeezed(fastest(candidates), request, view)
            if pick.on_time_probability < view.target:
                pick = max(candidates, key=self._worth)
                if pick.on_time_probability < TRY or self._worth(pick) <= 0.0:
                    return None
        if view.ledger.waiting(0):
            least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
            if view.ledger.harms(view.now_ms, request.deadline_ms, least_ms):
                return None
        return Bid(pick, self._worth(pick), pick.on_time_probability >= view.target)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        surest = min(candidates, key=_run_ms)
        if surest.on_time_probability < HOPELESS and head.tier == 0 and len(jobs) > 1:
            return Order(shed=(head,))
        self.market.look(jobs, view)
        likely = surest.on_time_probability >= view.target
        alone = self._best_alone(head, candidates, view.target if likely else 0.0, view)
        if likely and len(jobs) > 1 and view.predictor.batch_sizes:
            return self._best_batch(jobs, alone, view)
        return Order(alone.arm, (head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        self.market.arrived(request, now_ms)

    def observe_run(self, run: Run, _spent: Spent, *, now_ms: float) -> None:
        self.market.ran(run.estimate.slot_ms, now_ms)

    def _worth(self, candidate: Candidate) -> float:
        return _value(candidate) - self.market.price * candidate.estimate.slot_ms

    def _best_likely(self, candidates: Sequence[Candidate], target: float) -> Candidate | None:
        """Of those whose probability reaches the target the one worth most, if there is any.

        Of equals the one that comes first.
        """
        best, best_worth = None, -math.inf
        for most, _, cost, candidate in self._by_hope(candidates):
            if most < best_worth:
                break
            worth = _value(candidate) - cost
            if worth > best_worth and candidate.on_time_probability >= target:
                best, best_worth = candidate, worth
        return best

    def _best_alone(
        self, head: Job, candidates: Sequence[Candidate], target: float, view: View
    ) -> Candidate:
        """Of those that reach a target the best that makes no other late; of equals the fastest."""
        limit_ms = math.inf
        if view.ledger.depth > 1:
            least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
            limit_ms = least_ms + view.ledger.spare_ms(view.now_ms, least_ms, without=(head.id,))
        best, best_worth = None, (-math.inf, 0.0)
        for most, _, _, candidate in self._by_hope(candidates):
            slot_ms = candidate.estimate.slot_ms
            if most < best_worth[0]:
                break
            if slot_ms > limit_ms:
                continue
            worth = _value(candidate) - self.market.cost(slot_ms), -slot_ms
            if worth > best_worth and candidate.on_time_probability >= target:
                best, best_worth = candidate, worth
        return best or fastest(candidates)

    def _by_hope(
        self, candidates: Sequence[Candidate]
    ) -> list[tuple[float, int, float, Candidate]]:
        """What each would be worth if it were on time for certain, the best first.

        With its place and the price of its time. Nothing is worth more, so that nobody has to ask
        how likely those are that come behind a better one.
        """
        price = self.market.price
        hopes = []
        for place, candidate in enumerate(candidates):
            cost = price * candidate.estimate.slot_ms
            hopes.append((_accuracy(candidate.arm) - cost, -place, cost, candidate))
        hopes.sort(reverse=True)
        return hopes

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


def _run_ms(candidate: Candidate) -> float:
    return candidate.estimate.run_ms
