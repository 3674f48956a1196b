"""Model-Switching: one arm at a time for the whole service, by a table over the load."""

from collections.abc import Sequence

from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies.arrival_rate import ArrivalRate
from mnv4serve.router.policies.heads import bid_of, on_arm, take_head
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest

Table = Sequence[tuple[float, str]]
"""(Requests per ms up to which an arm is the best, arm id), by rising rate."""


class ModelSwitching:
    """After Model-Switching (HotCloud 2020, sections 3 and 4).

    Offline, the effective accuracy of every model is measured at every load; online, the service
    switches to the model that was best at the load observed now, for queued requests as well.
    Without a table from such measurements, the most accurate arm that would keep the slots busy
    for at most `utilisation` of the time.
    """

    def __init__(
        self, table: Table = (), *, window_ms: float = 500.0, utilisation: float = 0.7
    ) -> None:
        self._table = tuple(table)
        self._utilisation = utilisation
        self._rate = ArrivalRate(window_ms)

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request
        return bid_of(self._current(candidates, view))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return take_head(jobs, view, lambda _, candidates: self._current(candidates, view))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        del request
        self._rate.count(now_ms)

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass

    def _current(self, candidates: Sequence[Candidate], view: View) -> Candidate:
        rate = self._rate.per_ms(view.now_ms)
        if self._table:
            best = next((arm for up_to, arm in self._table if rate <= up_to), self._table[-1][1])
            return on_arm(candidates, best)
        limit_ms = self._utilisation * view.ledger.slots / max(rate, 1e-9)
        light = [c for c in candidates if c.estimate.slot_ms <= limit_ms]
        return max(light, key=lambda c: c.arm.accuracy or 0.0, default=fastest(candidates))
