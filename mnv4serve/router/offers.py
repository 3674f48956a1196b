"""What the pools can offer one request at admission; hints are worked out only when asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm, Picture, Terms
from mnv4serve.router.policy import Candidate, Outlook, Policy, most_accurate_on_time, round_up
from mnv4serve.router.predict import Estimate, Predictor
from mnv4serve.router.schedule import Ledger

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


@dataclass(frozen=True, slots=True)
class Request:
    """What admission has to know of a request."""

    id: int
    picture: Picture
    terms: Terms
    received_ms: float

    @property
    def deadline_ms(self) -> float:
        return self.received_ms + self.terms.budget_ms


@dataclass(frozen=True, slots=True)
class Rules:
    """The parts of the configuration that decisions depend on."""

    on_time_target: float = 0.95
    late_limit_ms: float = 1000.0
    policy: Policy = most_accurate_on_time


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
        ids = {arm.id for arm in arms}
        offers = [
            _Offer(pool, ids, request, now_ms=now_ms, target=rules.on_time_target) for pool in pools
        ]
        self._offers = [offer for offer in offers if offer.runs]

    def likely(self) -> list[Candidate]:
        """Every eligible arm, behind the waiting work that is due earlier."""
        return [candidate for offer in self._offers for candidate in offer.likely()]

    def degraded(self) -> list[Candidate]:
        """The fastest eligible arm of each pool, behind all work that is likely on time."""
        return [candidate for offer in self._offers for candidate in offer.degraded()]

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
        self, pool: Pool, ids: set[str], request: Request, *, now_ms: float, target: float
    ) -> None:
        self.runs = [
            (arm, pool.predictor.expect(arm, request.picture, wait_ms=0.0))
            for arm in pool.arms
            if arm.id in ids
        ]
        self._predictor = pool.predictor
        self._ledger = pool.ledger
        self._request = request
        self._now_ms = now_ms
        self._left_ms = request.deadline_ms - now_ms
        self._target = target

    def likely(self) -> list[Candidate]:
        if self._ledger.full:
            return []
        wait_ms = self._wait_ms(self._request.deadline_ms)
        return [self._candidate(arm, run.after(wait_ms)) for arm, run in self.runs]

    def degraded(self) -> list[Candidate]:
        if not self._ledger.has_room(1):
            return []
        arm, run = self._fastest()
        wait_ms = self._ledger.wait_ms(self._now_ms, self._request.deadline_ms, tier=1)
        return [self._candidate(arm, run.after(wait_ms))]

    def outlook(self) -> Outlook:
        _, run = self._fastest()
        wait_ms = self._wait_ms(self._request.deadline_ms)
        required_ms = self._required_ms(run.after(wait_ms))
        return Outlook(
            idle_budget_ms=self._spent_ms + self._required_ms(run),
            now_budget_ms=self._accepted_ms(run, wait_ms, required_ms),
            retry_after_ms=max(1.0, self._wait_ms(-math.inf), required_ms - self._left_ms),
            full=self._ledger.full,
        )

    @property
    def _spent_ms(self) -> float:
        return self._now_ms - self._request.received_ms

    def _candidate(self, arm: Arm, estimate: Estimate) -> Candidate:
        probability = self._predictor.on_time_probability(estimate, self._left_ms)
        return Candidate(arm, estimate, probability)

    def _fastest(self) -> tuple[Arm, Estimate]:
        return min(self.runs, key=lambda run: (run[1].run_ms, -(run[0].accuracy or 0.0), run[0].id))

    def _wait_ms(self, deadline_ms: float) -> float:
        return self._ledger.wait_ms(self._now_ms, deadline_ms)

    def _required_ms(self, estimate: Estimate) -> float:
        return self._predictor.required_ms(estimate, self._target)

    def _accepted_ms(self, run: Estimate, wait_ms: float, required_ms: float) -> float:
        """A larger budget lets more work go first, so the wait is followed to where it settles."""
        longest_ms = self._wait_ms(math.inf)
        for step in range(_PATIENCE):
            budget_ms = round_up(self._spent_ms + required_ms)
            settled_ms = self._wait_ms(self._request.received_ms + budget_ms)
            if settled_ms <= wait_ms:
                break
            wait_ms = longest_ms if step == _PATIENCE - 1 else settled_ms
            required_ms = self._required_ms(run.after(wait_ms))
        return round_up(self._spent_ms + required_ms)
