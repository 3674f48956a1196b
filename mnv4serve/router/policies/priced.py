"""The policy of this service: accuracy on time, less what the slot's time is worth to others."""

import math
from collections.abc import Sequence

from mnv4serve.router.forecast import Forecast, Outlook
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest
from mnv4serve.router.predict import Spent
from mnv4serve.router.price import Curve

HOPELESS = 0.02
"""Below this probability a job gives way, at dispatch, to work that can still be on time."""
BACKLOG = 0.4
"""Share of a typical budget that waiting work may take up before it counts as too much."""
CAUTION = 0.25
"""Standard deviations of what will arrive that are provided for."""
_WINDOWS = 8
"""Deadlines at which the queue is looked at; more of them change nothing."""
_CURVE_LIFE = 64
"""Decisions after which the curve of the arms is drawn anew."""


class Priced:
    """Takes the arm worth most, where each costs the time that it keeps from other requests."""

    def __init__(self) -> None:
        self._forecast: Forecast | None = None
        self._curve: Curve | None = None
        self._curve_age = 0
        self.price = 0.0
        """Accuracy per millisecond of slot time, as of the last decision."""

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
        wait_ms, harms = view.ledger.squeezed(view.now_ms, request.deadline_ms, least_ms)
        if harms:
            return None
        likely = [c for c in candidates if c.on_time_probability >= view.target]
        if likely:
            pick = max(likely, key=self._worth)
        else:
            pick = _squeezed(fastest(candidates), wait_ms, request, view)
        if pick.on_time_probability < view.target:
            return None
        return Bid(pick, self._worth(pick))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        best = max(candidate.on_time_probability for candidate in candidates)
        if best < HOPELESS and head.tier == 0 and len(jobs) > 1:
            return Order(shed=(head,))
        return Order(self._choose(candidates, jobs, view).arm, (head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        if self._forecast is not None:
            self._forecast.arrived(request.terms.budget_ms, now_ms)

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        """Nothing is learnt from runs that the predictor does not know."""

    def _worth(self, candidate: Candidate) -> float:
        return (candidate.arm.accuracy or 0.0) - self.price * candidate.estimate.slot_ms

    def _choose(
        self, candidates: Sequence[Candidate], jobs: Sequence[Job], view: View
    ) -> Candidate:
        curve = self._current_curve(jobs[0], view)
        if self._forecast is None:
            self._forecast = Forecast(curve.fastest_ms)
        busy = [run.remaining_ms(view.now_ms) for run in view.ledger.running]
        outlook = self._forecast.look(view.now_ms)
        share_ms = math.inf
        if outlook is not None:
            share_ms = self._share_ms(outlook, jobs, busy, view)
        self.price = curve.price(share_ms)
        likely = [c for c in candidates if c.on_time_probability >= view.target]
        if not likely:
            return max(candidates, key=lambda c: (c.on_time_probability, -c.estimate.slot_ms))
        least_ms = min(candidate.estimate.slot_ms for candidate in candidates)
        spare_ms = view.ledger.spare_ms(view.now_ms, least_ms, without=jobs[0].id)
        limit_ms = least_ms + spare_ms
        next_free_ms = _next_free_ms(busy, view)
        best, best_value = likely[0], -math.inf
        for candidate in likely:
            slot_ms = candidate.estimate.slot_ms
            value = (candidate.arm.accuracy or 0.0) - self.price * slot_ms
            if outlook is not None:
                blocked = outlook.blocked(min(slot_ms, next_free_ms))
                value -= curve.fastest_accuracy * blocked
            if slot_ms > limit_ms:
                value -= 1.0
            if value > best_value:
                best, best_value = candidate, value
        return best

    def _share_ms(
        self, outlook: Outlook, jobs: Sequence[Job], busy: Sequence[float], view: View
    ) -> float:
        """Slot time for each request: the least over all deadlines, and in the long run."""
        slots, n = view.ledger.slots, len(jobs)
        forecast = self._forecast
        assert forecast is not None
        horizon_ms = forecast.typical_budget_ms
        demand = n + outlook.within(horizon_ms) + CAUTION * outlook.spread(horizon_ms)
        demand -= BACKLOG * horizon_ms * forecast.rate
        taken_ms = sum(min(remaining_ms, horizon_ms) for remaining_ms in busy)
        share_ms = (slots * horizon_ms - taken_ms) / demand if demand > 0.0 else math.inf
        step = max(1, n // _WINDOWS)
        for place in (*range(0, n, step), n - 1):
            left_ms = jobs[place].deadline_ms - view.now_ms
            if jobs[place].tier or left_ms <= 0.0:
                continue
            taken_ms = sum(min(remaining_ms, left_ms) for remaining_ms in busy)
            here_ms = (slots * left_ms - taken_ms) / (place + 1 + outlook.due(left_ms))
            share_ms = min(share_ms, here_ms)
        return share_ms

    def _current_curve(self, job: Job, view: View) -> Curve:
        self._curve_age -= 1
        if self._curve is None or self._curve_age < 0:
            self._curve_age = _CURVE_LIFE
            self._curve = Curve(
                (view.predictor.expect(arm, job.picture, wait_ms=0.0).slot_ms, arm.accuracy)
                for arm in view.arms
                if arm.accuracy is not None
            )
        return self._curve


def _squeezed(candidate: Candidate, wait_ms: float, request: Request, view: View) -> Candidate:
    """How the candidate would do if all work ahead of it took its fastest arm."""
    run = candidate.estimate.after(wait_ms)
    left_ms = request.deadline_ms - view.now_ms
    return Candidate(candidate.arm, run, view.predictor.squeezed_probability(run, left_ms))


def _next_free_ms(busy: Sequence[float], view: View) -> float:
    """When another slot could take a newcomer."""
    if len(busy) < view.ledger.slots - 1:
        return 0.0
    return min(busy, default=math.inf)
