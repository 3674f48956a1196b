"""RAMSIS: tables solved offline for each load, looked up by queue length and slack."""

import math
from collections.abc import Sequence

from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies.arrival_rate import ArrivalRate
from mnv4serve.router.policies.heads import bid_of, on_arm
from mnv4serve.router.policies.markov import DROP, Grid, Option, Table, Workload, solve
from mnv4serve.router.policy import Bid, Candidate, Order, View, fastest, most_accurate_on_time
from mnv4serve.router.predict import Spent

_ENOUGH = 64
"""Budgets to have seen before a table is solved for them."""
_QUANTILES = 20
_STEP = 1.2
"""Tables are solved for loads this far apart; the next higher one is used."""


class Ramsis:
    """After RAMSIS (EuroSys 2024, sections 4 and 5).

    A semi-Markov decision process per load under Poisson arrivals says which model to run for each
    queue length and slack; a moving average of the load selects the table. Profiles are p95 and
    stay as they were at first. Adapted: the paper has one budget for all and deals requests out to
    workers in turn; here budgets are a mixture, whose slacks in the queue are taken as independent,
    and a slot stands for a worker with its share of the common queue. Requests that no arm can
    answer in time are given up, where the paper runs the fastest. Batches are not formed.

    Solves a table when a load is first seen, which takes about a second: not for production.
    """

    def __init__(
        self,
        budgets_ms: Sequence[float] = (),
        *,
        window_ms: float = 500.0,
        load_factor: float = 1.0,
        target: float = 0.95,
        grid: Grid | None = None,
    ) -> None:
        self.budgets_ms = tuple(budgets_ms)
        """Equally likely ones; learnt from the first requests where none are given."""
        self._rate = ArrivalRate(window_ms)
        self._load_factor = load_factor
        self._target = target
        self._grid = grid or Grid()
        self._seen_ms: list[float] = []
        self._arm_ids: tuple[str, ...] = ()
        self._options: tuple[Option, ...] = ()

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return bid_of(fastest(candidates))

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        head = jobs[0]
        candidates = view.candidates(head)
        if head.tier:
            return Order(fastest(candidates).arm, (head,))
        self._learn_options(head, candidates, view)
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

    def _learn_options(self, head: Job, candidates: Sequence[Candidate], view: View) -> None:
        """The profile as it is before anything was learnt; again when other arms may be run."""
        arm_ids = tuple(candidate.arm.id for candidate in candidates)
        if self._options and set(arm_ids) <= set(self._arm_ids):
            return
        del head
        self._arm_ids = arm_ids
        self._options = tuple(
            Option(
                round(c.estimate.slot_ms, 3),
                round(
                    view.predictor.required_ms(c.estimate, self._target) - c.estimate.reply_ms, 3
                ),
                c.arm.accuracy or 0.0,
            )
            for c in candidates
        )

    def _table(self, view: View) -> Table | None:
        rate = self._load_factor * self._rate.per_ms(view.now_ms) / view.ledger.slots
        if not self.budgets_ms or rate <= 0.0:
            return None
        most = 4.0 / min(option.slot_ms for option in self._options)
        stepped = _STEP ** math.ceil(math.log(min(rate, most), _STEP))
        return solve(self._options, Workload(stepped, self.budgets_ms), self._grid)
