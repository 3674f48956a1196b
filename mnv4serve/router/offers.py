"""What the pools can offer one request at admission; hints are worked out only when asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm, OnMiss, Reason, Terms
from mnv4serve.router.estimate import Estimate
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.policy import (
    Bid,
    Candidate,
    Policy,
    View,
    fastest,
    plan_of,
)
from mnv4serve.router.predict import Predictor
from mnv4serve.router.refusal import Outlook, round_up
from mnv4serve.router.schedule import Ledger
from mnv4serve.router.spread import Rival, spread

_PATIENCE = 3
"""Steps after which a hint assumes that all waiting work goes first."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What the router has to see of a pool."""

    device: str
    arms: tuple[Arm, ...]
    """The resident set."""
    predictor: Predictor
    ledger: Ledger
    policy: Policy
    contenders: tuple[Arm, ...] = ()
    """Of the resident set, those that requests without pins may get; empty: all."""

    def considered(self, terms: Terms) -> tuple[Arm, ...]:
        """The arms among which a request's terms may choose."""
        pinned = terms.variant is not None or terms.backend is not None
        return self.arms if pinned else self.contenders or self.arms

    def view(self, now_ms: float, rules: "Rules") -> View:
        """What its policy may look at."""
        return View(self.arms, self.predictor, self.ledger, now_ms, rules.on_time_target)


@dataclass(frozen=True, slots=True)
class Rules:
    """The parts of the configuration that decisions depend on."""

    on_time_target: float = 0.95
    late_limit_ms: float = 1000.0


class Offers:
    """The offers of all pools that have eligible arms."""

    def __init__(
        self,
        pools: Sequence[Pool],
        arms: Sequence[Arm],
        request: Request,
        *,
        now_ms: float,
        rules: Rules,
    ) -> None:
        offers = [
            _Offer(pool, _of(pool, arms, pools), request, now_ms=now_ms, rules=rules)
            for pool in pools
        ]
        self._offers = [offer for offer in offers if offer.runs]

    def best(self, reason: Reason) -> Job | None:
        """Where the request is worth most, promised or tried; None where no pool wants it so."""
        bids = [(offer.bid(), offer) for offer in self._offers]
        made = [(bid, offer) for bid, offer in bids if bid is not None]
        if not made:
            return None
        best, _ = max(made, key=lambda one: (one[0].value, -one[0].candidate.estimate.total_ms))
        offered = [(bid.candidate, offer) for bid, offer in made]
        candidate, offer = _apart(offered, best.candidate)
        if not best.likely:
            return offer.job(candidate, Reason.DEGRADED)
        return offer.job(candidate, offer.reason(candidate, reason))

    def degraded(self) -> Job | None:
        """The fastest eligible arm, behind all work that is likely on time."""
        late = [(offer.degraded(), offer) for offer in self._offers if offer.room(1)]
        if not late:
            return None
        candidate, offer = _apart(late, fastest([candidate for candidate, _ in late]))
        return offer.job(candidate, Reason.DEGRADED, tier=1)

    def outlook(self) -> Outlook:
        """The best that any pool can say."""
        outlooks = [offer.outlook() for offer in self._offers]
        open_now = [outlook for outlook in outlooks if not outlook.full] or outlooks
        return Outlook(
            idle_budget_ms=min(outlook.idle_budget_ms for outlook in outlooks),
            now_budget_ms=min(outlook.now_budget_ms for outlook in open_now),
            retry_after_ms=min(outlook.retry_after_ms for outlook in outlooks),
            full=all(outlook.full for outlook in outlooks),
        )


class _Offer:
    """One pool's part of it; `runs` are the eligible arms as they would do without a wait."""

    def __init__(
        self, pool: Pool, arms: Sequence[Arm], request: Request, *, now_ms: float, rules: Rules
    ) -> None:
        self._pool = pool
        self._predictor: Predictor = pool.predictor
        self._ledger = pool.ledger
        self._request = request
        self._arms = tuple(arms)
        self.runs = list(zip(self._arms, self._alone(), strict=True))
        self._now_ms = now_ms
        self._left_ms = request.deadline_ms - now_ms
        self._rules = rules
        self._candidates: list[Candidate] = []
        self._here_ms: float | None = None
        self._first: tuple[Arm, Estimate] | None = None

    def room(self, tier: int) -> bool:
        return self._ledger.has_room(tier)

    def bid(self) -> Bid | None:
        if not self.room(0):
            return None
        wait_ms = self._wait_here_ms()
        chance = self._chance
        self._candidates = [Candidate(arm, run.after(wait_ms), chance) for arm, run in self.runs]
        view = self._pool.view(self._now_ms, self._rules)
        return self._pool.policy.bid(self._candidates, self._request, view)

    def degraded(self) -> Candidate:
        arm, run = self._fastest()
        wait_ms = self._ledger.wait_ms(self._now_ms, self._request.deadline_ms, tier=1)
        if self._ledger.residency is not None:
            run = self._run(arm, tier=1)
        return Candidate(arm, run.after(wait_ms), self._chance)

    def rival(self, candidate: Candidate) -> Rival:
        """What it offers, drawn for where others send to its pool as well."""
        lot = self._ledger.lot(self._request.id)
        return Rival(_accuracy(candidate), candidate.estimate, lot)

    def reason(self, chosen: Candidate, reason: Reason) -> Reason:
        """Priced down where the policy passed over a better arm that was likely on time."""
        if reason is not Reason.MOST_ACCURATE_ON_TIME:
            return reason
        taken, target = _accuracy(chosen), self._rules.on_time_target
        passed_over = any(
            _accuracy(candidate) > taken and candidate.on_time_probability >= target
            for candidate in self._candidates
        )
        return Reason.PRICED_DOWN if passed_over else reason

    def job(self, candidate: Candidate, reason: Reason, *, tier: int = 0) -> Job:
        plan = plan_of(candidate, reason)
        terms = self._request.terms
        late_ms = self._rules.late_limit_ms if terms.on_miss is OnMiss.DEGRADE else 0.0
        arm, fastest_run = self._fastest()
        alone = fastest_run.settled() if fastest_run.switch_ms else fastest_run
        margin_ms = self._predictor.margin_ms(alone, self._rules.on_time_target)
        least_ms = alone.slot_ms
        if self._predictor.batch_sizes:
            least_ms = self._predictor.least_ms(arm, self._request.picture)
            margin_ms += alone.slot_ms - least_ms
        return Job(
            id=self._request.id,
            arrived_ms=self._request.received_ms,
            deadline_ms=self._request.deadline_ms,
            expire_ms=self._request.deadline_ms + late_ms,
            picture=self._request.picture,
            terms=terms,
            plan=plan,
            arms=self._arms,
            expected_ms=candidate.estimate.slot_ms - candidate.estimate.switch_ms,
            least_ms=least_ms,
            tier=tier,
            margin_ms=margin_ms,
            scatter_ms=max(0.0, margin_ms - alone.reply_ms),
        )

    def outlook(self) -> Outlook:
        _, run = self._fastest()
        wait_ms = self._wait_here_ms()
        required_ms = self._required_ms(run.after(wait_ms))
        return Outlook(
            idle_budget_ms=self._spent_ms + self._required_ms(run.settled()),
            now_budget_ms=self._accepted_ms(run, wait_ms, required_ms),
            retry_after_ms=max(1.0, self._wait_ms(-math.inf), required_ms - self._left_ms),
            full=self._ledger.full,
        )

    @property
    def _spent_ms(self) -> float:
        return self._now_ms - self._request.received_ms

    def _alone(self) -> Sequence[Estimate]:
        if self._ledger.residency is None:
            return self._predictor.alone(self._arms, self._request.picture)
        return [self._run(arm, tier=0) for arm in self._arms]

    def _run(self, arm: Arm, *, tier: int) -> Estimate:
        switch_ms = self._ledger.switch_ms(arm.id, self._request.deadline_ms, tier)
        picture = self._request.picture
        return self._predictor.expect(arm, picture, wait_ms=0.0, switch_ms=switch_ms)

    def _chance(self, estimate: Estimate) -> float:
        return self._predictor.on_time_probability(estimate, self._left_ms)

    def _fastest(self) -> tuple[Arm, Estimate]:
        if self._first is None:
            self._first = min(
                self.runs, key=lambda run: (run[1].run_ms, -(run[0].accuracy or 0.0), run[0].id)
            )
        return self._first

    def _wait_here_ms(self) -> float:
        """At the request's own place in the queue."""
        if self._here_ms is None:
            self._here_ms = self._wait_ms(self._request.deadline_ms)
        return self._here_ms

    def _wait_ms(self, deadline_ms: float) -> float:
        return self._ledger.wait_ms(self._now_ms, deadline_ms)

    def _required_ms(self, estimate: Estimate) -> float:
        return self._predictor.required_ms(estimate, self._rules.on_time_target)

    def _accepted_ms(self, run: Estimate, wait_ms: float, required_ms: float) -> float:
        """A larger budget lets more work go first, so the wait is followed to where it settles.

        Where the request would make others late there, all of them have to go first.
        """
        for _ in range(_PATIENCE):
            budget_ms = round_up(self._spent_ms + required_ms)
            deadline_ms = self._request.received_ms + budget_ms
            settled_ms = self._wait_ms(deadline_ms)
            if settled_ms <= wait_ms:
                if self._ledger.harms(self._now_ms, deadline_ms, run.slot_ms):
                    break
                return budget_ms
            wait_ms = settled_ms
            required_ms = self._required_ms(run.after(wait_ms))
        last_ms = self._ledger.last_deadline_ms() - self._request.received_ms
        required_ms = self._required_ms(run.after(self._wait_ms(math.inf)))
        return round_up(max(last_ms, self._spent_ms + required_ms))


def _of(pool: Pool, arms: Sequence[Arm], pools: Sequence[Pool]) -> Sequence[Arm]:
    """Those of the eligible arms that are the pool's."""
    return arms if len(pools) == 1 else [arm for arm in arms if arm.device == pool.device]


def _accuracy(candidate: Candidate) -> float:
    return candidate.arm.accuracy or 0.0


def _apart(
    offered: Sequence[tuple[Candidate, _Offer]], best: Candidate
) -> tuple[Candidate, _Offer]:
    """The best offer, or one as good that other routers are less likely to take."""
    number = next(n for n, (candidate, _) in enumerate(offered) if candidate is best)
    if len(offered) > 1:
        number = spread([offer.rival(candidate) for candidate, offer in offered], number)
    return offered[number]
