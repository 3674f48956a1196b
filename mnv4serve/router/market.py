"""What a slot's time is worth to a pool at a moment, to the requests that wait and that will come.

There is nothing to set. Each request can have a share of the slots' time until it is due, and of
what is left in the long run once the backlog is as large as budgets allow; the price of time is
what the smallest of these shares makes of it. A run costs more than its time where requests that
cannot wait for its end are lost meanwhile: as long as no other slot is free for certain, and then
as often as the others are usually taken.
"""

import math
from collections.abc import Sequence

from mnv4serve.router.forecast import Forecast, Outlook
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.occupancy import Occupancy
from mnv4serve.router.policy import View
from mnv4serve.router.price import Curve

BACKLOG = 0.4
"""Share of a typical budget that waiting work may take up before it counts as too much."""
CAUTION = 0.25
"""Standard deviations of what will arrive that are provided for."""
_WINDOWS = 8
"""Waiting deadlines at which shares are worked out; more of them change nothing."""
_CURVE_LIFE = 64
"""Looks after which the curve of the arms is drawn anew."""


class Market:
    """One pool's price of time, and what it follows from."""

    def __init__(self) -> None:
        self.price = 0.0
        """Accuracy per millisecond of slot time, as of the last look."""
        self._forecast: Forecast | None = None
        self._curve: Curve | None = None
        self._curve_left = 0
        self._outlook: Outlook | None = None
        self._next_free_ms = 0.0
        self._needed_ms = 0.0
        self._occupancy: Occupancy | None = None

    def ran(self, duration_ms: float, now_ms: float) -> None:
        """Take note of a run that has ended."""
        if self._occupancy is not None:
            self._occupancy.ran(duration_ms, now_ms)

    def arrived(self, request: Request, now_ms: float) -> None:
        """Take note of demand."""
        if self._forecast is not None:
            self._forecast.arrived(request.terms.budget_ms, now_ms)

    def look(self, jobs: Sequence[Job], view: View) -> None:
        """Set the price for the moment at which a slot is idle and these jobs wait."""
        curve = self._current_curve(jobs[0], view)
        if curve is None:
            return
        if self._forecast is None:
            self._occupancy = Occupancy(view.ledger.slots)
            self._forecast = Forecast(curve.fastest_ms, self._occupancy.others_taken)
        self._forecast.needed_ms = self._needed_ms
        busy = [run.remaining_ms(view.now_ms) for run in view.ledger.running]
        spare_slot = len(busy) < view.ledger.slots - 1
        self._next_free_ms = 0.0 if spare_slot else min(busy, default=math.inf)
        self._outlook = self._forecast.look(view.now_ms)
        share_ms = math.inf
        if self._outlook is not None:
            share_ms = min(
                self._lasting_share_ms(self._forecast, self._outlook, len(jobs), busy, view),
                _share_until_due_ms(self._outlook, jobs, busy, view),
            )
        self.price = curve.price(share_ms)

    def cost(self, slot_ms: float) -> float:
        """Accuracy that others lose by a run of this length that starts now."""
        if self._outlook is None or self._curve is None:
            return self.price * slot_ms
        until_ms = min(slot_ms, self._next_free_ms)
        blocked = self._outlook.blocked(until_ms)
        blocked += self._outlook.held(slot_ms) - self._outlook.held(until_ms)
        return self.price * slot_ms + self._curve.fastest_accuracy * blocked

    def _lasting_share_ms(
        self, forecast: Forecast, outlook: Outlook, waiting: int, busy: Sequence[float], view: View
    ) -> float:
        """Over the time of a typical budget, leaving as much waiting as does no harm."""
        horizon_ms = forecast.typical_budget_ms
        demand = waiting + outlook.within(horizon_ms) + CAUTION * outlook.spread(horizon_ms)
        demand -= BACKLOG * horizon_ms * forecast.rate
        if demand <= 0.0:
            return math.inf
        return _free_ms(horizon_ms, busy, view) / demand

    def _current_curve(self, job: Job, view: View) -> Curve | None:
        self._curve_left -= 1
        if self._curve_left < 0:
            self._curve_left = _CURVE_LIFE
            points = [
                (view.predictor.least_ms(arm, job.picture), arm.accuracy)
                for arm in view.arms
                if arm.accuracy is not None
            ]
            self._curve = Curve(points) if points else None
            self._needed_ms = min(
                view.predictor.required_ms(
                    view.predictor.expect(arm, job.picture, wait_ms=0.0), view.target
                )
                for arm in view.arms
            )
        return self._curve


def _share_until_due_ms(
    outlook: Outlook, jobs: Sequence[Job], busy: Sequence[float], view: View
) -> float:
    """The smallest that waiting jobs and what comes and is due before them can have."""
    share_ms = math.inf
    last = len(jobs) - 1
    for place in (*range(0, last, max(1, last // _WINDOWS)), last):
        left_ms = jobs[place].deadline_ms - view.now_ms
        if jobs[place].tier == 0 and left_ms > 0.0:
            demand = place + 1 + outlook.due(left_ms)
            share_ms = min(share_ms, _free_ms(left_ms, busy, view) / demand)
    return share_ms


def _free_ms(duration_ms: float, busy: Sequence[float], view: View) -> float:
    taken_ms = sum(min(remaining_ms, duration_ms) for remaining_ms in busy)
    return view.ledger.slots * duration_ms - taken_ms
