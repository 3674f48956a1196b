"""RAMSIS: tables solved offline for each load, looked up by queue length and slack."""

import math
from bisect import bisect_left
from collections.abc import Sequence

from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies.arrival_rate import ArrivalRate
from mnv4serve.router.policies.heads import bid_of, on_arm
from mnv4serve.router.policies.markov import DROP, Grid, Option, Table, Workload, solve
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest, most_accurate_on_time

_ENOUGH = 64
"""Budgets to have seen before a table is solved for them."""
_QUANTILES = 20
_LOADS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.6)
"""For which there are tables, in units of what the fastest arm can carry."""


class Ramsis:
    """After RAMSIS (EuroSys 2024, sections 4 and 5).

    A semi-Markov decision process per load under Poisson arrivals says which model to run for each
    queue length and slack; a moving average of the load selects the table. Profiles are p95 and
    stay as they were at first. Adapted: the paper has one budget for all and deals requests out to
    workers in turn; here budgets are a mixture, whose slacks in the queue are taken as independent,
    and a slot stands for a worker with its share of the common queue. Requests that no arm can
    answer in time are given up, where the paper runs the fastest. Batches are not formed.

    A table takes about a second, when its load is first seen or beforehand by `prepare`.
    """

    def __init__(
        self,
        budgets_ms: Sequence[float] = (),
        *,
        window_ms: float = 500.0,
        load_factor: float = 1.5,
        target: float = 0.95,
        grid: Grid | None = None,
    ) -> None:
        self.budgets_ms = tuple(budgets_ms)
        """Equally likely ones; learnt from the first requests where none are given."""
        self._rate = ArrivalRate(window_ms)
        self._load_factor = load_factor
        """Above 1 it makes up for slacks that are not as independent as they are taken to be."""
        self._target = target
        self._grid = grid or Grid()
        self._seen_ms: list[float] = []
        self._arm_ids: tuple[str, ...] = ()
        self._options: tuple[Option, ...] = ()
        self._rates_per_ms: tuple[float, ...] = ()

    def prepare(self, candidates: Sequence[Candidate], view: View) -> None:
        """Solve all tables, for arms as they do on an idle device and budgets that were given."""
        self._learn_options(candidates, view)
        for rate in self._rates_per_ms:
            solve(self._options, Workload(rate, self.budgets_ms), self._grid)

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(fastest(candidates))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        if head.tier:
            return Order(fastest(candidates).arm, (head,))
        self._learn_options(candidates, view)
        table = self._table(view)
        if table is None:
            pick = most_accurate_on_time(candidates, target=self._target) or fastest(candidates)
            return Order(pick.arm, (head,))
        waiting = math.ceil(view.ledger.waiting(0) / view.ledger.slots)
        action = table.action(waiting, head.deadline_ms - view.now_ms - view.predictor.reply_ms)
        if action == DROP:
            return Order(shed=(head,))
        return Order(on_arm(candidates, self._arm_ids[action]).arm, (head,))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None:
        self._rate.count(now_ms)
        if not self.budgets_ms:
            self._learn_budgets(request.terms.budget_ms)

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None:
        pass

    def _learn_budgets(self, budget_ms: float) -> None:
        self._seen_ms.append(budget_ms)
        if len(self._seen_ms) >= _ENOUGH:
            ranked = sorted(self._seen_ms)
            places = [(2 * i + 1) * len(ranked) // (2 * _QUANTILES) for i in range(_QUANTILES)]
            self.budgets_ms = tuple(ranked[place] for place in places)

    def _learn_options(self, candidates: Sequence[Candidate], view: View) -> None:
        """The profile as it is before anything was learnt, of the arms worth having."""
        if self._options:
            return
        useful = [c for c in candidates if not any(_beats(other, c) for other in candidates)]
        self._arm_ids = tuple(candidate.arm.id for candidate in useful)
        self._options = tuple(
            Option(
                round(c.estimate.slot_ms, 3),
                round(
                    view.predictor.required_ms(c.estimate, self._target) - c.estimate.reply_ms, 3
                ),
                c.arm.accuracy or 0.0,
            )
            for c in useful
        )
        capacity = 1.0 / min(option.slot_ms for option in self._options)
        self._rates_per_ms = tuple(share * capacity for share in _LOADS)

    def _table(self, view: View) -> Table | None:
        rate = self._load_factor * self._rate.per_ms(view.now_ms) / view.ledger.slots
        if not self.budgets_ms or rate <= 0.0:
            return None
        place = min(bisect_left(self._rates_per_ms, rate), len(_LOADS) - 1)
        return solve(
            self._options, Workload(self._rates_per_ms[place], self.budgets_ms), self._grid
        )


def _beats(one: Candidate, other: Candidate) -> bool:
    """Whether an arm is no slower and no less accurate than another, and better in one of them."""
    faster = other.estimate.slot_ms - one.estimate.slot_ms
    better = (one.arm.accuracy or 0.0) - (other.arm.accuracy or 0.0)
    return faster >= 0.0 and better >= 0.0 and faster + better > 0.0
