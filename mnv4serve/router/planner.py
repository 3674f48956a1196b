"""The two decisions about a request: at admission over all pools, at dispatch within its pool.

Pure steps over values and ledgers: the caller passes the time in and does what was decided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mnv4serve.domain import Arm, OnMiss, Picture, Plan, Reason, Stages, Terms
from mnv4serve.router.policy import (
    Candidate,
    Eligible,
    Outlook,
    Policy,
    Refusal,
    choose,
    eligible,
    most_accurate_on_time,
    plan_of,
    rebind,
    round_up,
)
from mnv4serve.router.predict import Estimate, Predictor
from mnv4serve.router.schedule import Job, Ledger

HOPELESS = 0.02
"""Below this probability a job gives way, at dispatch, to work that can still be on time."""
_PATIENCE = 4
"""Steps after which a hint assumes that all waiting work goes first."""


class Pool(Protocol):
    """What the router has to see of a pool."""

    @property
    def arms(self) -> Sequence[Arm]:
        """The resident set."""
        ...

    @property
    def predictor(self) -> Predictor: ...

    @property
    def ledger(self) -> Ledger: ...


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


@dataclass(frozen=True, slots=True)
class Run:
    """A job that was given a slot, with the arm it is bound to."""

    job: Job
    plan: Plan
    """As decided at dispatch; `wait_ms` is what the job has really waited."""
    estimate: Estimate
    slot: int


def admit(
    pools: Sequence[Pool],
    request: Request,
    *,
    now_ms: float,
    rules: Rules,
    down: Sequence[Arm] = (),
) -> Job | Refusal:
    """Decide on a request; the job still has to be admitted to the ledger of its arm's device."""
    allowed = eligible([arm for pool in pools for arm in pool.arms], request.terms, down=down)
    if isinstance(allowed, Refusal):
        return allowed
    options = _Options(pools, allowed, request, now_ms=now_ms, rules=rules)
    plan = choose(
        options.likely(),
        request.terms,
        target=rules.on_time_target,
        fallback=options,
        reason=allowed.reason,
        policy=rules.policy,
    )
    return plan if isinstance(plan, Refusal) else options.job(plan)


def dispatch(pool: Pool, *, now_ms: float, rules: Rules) -> Run | None:
    """Start the next job on an idle slot of the ledger, planned again; None if there is none."""
    while (job := pool.ledger.pop(now_ms)) is not None:
        candidates = _candidates_now(pool, job, now_ms)
        if _gives_way(pool, job, candidates):
            pool.ledger.demote(job)
            continue
        return _bind(pool, job, candidates, now_ms=now_ms, rules=rules)
    return None


def learn(pool: Pool, run: Run, actual: Stages) -> None:
    """Teach the pool's predictor what became of a run; `actual` as `Predictor.observe` has it."""
    pool.predictor.observe(run.plan.arm, run.job.picture, expected=run.estimate, actual=actual)
    if run.job.plan.reason is not Reason.DEGRADED:
        pool.predictor.observe_wait(expected_ms=run.job.plan.wait_ms, actual_ms=actual.wait_ms)


def learn_expired(pool: Pool, job: Job, *, now_ms: float) -> None:
    """Teach the pool's predictor that a job gave up waiting."""
    waited_ms = now_ms - job.arrived_ms
    if job.plan.reason is not Reason.DEGRADED and waited_ms > job.plan.wait_ms:
        pool.predictor.observe_wait(expected_ms=job.plan.wait_ms, actual_ms=waited_ms)


class _Options:
    """What admission can offer one request; each kind of offer is worked out when asked for."""

    def __init__(
        self,
        pools: Sequence[Pool],
        allowed: Eligible,
        request: Request,
        *,
        now_ms: float,
        rules: Rules,
    ) -> None:
        ids = {arm.id for arm in allowed.arms}
        arms_of = [(pool, [arm for arm in pool.arms if arm.id in ids]) for pool in pools]
        self._offers = [(pool, arms) for pool, arms in arms_of if arms]
        self._request = request
        self._now_ms = now_ms
        self._rules = rules

    def likely(self) -> list[Candidate]:
        return self._candidates(tier=0)

    def degraded(self) -> list[Candidate]:
        return self._candidates(tier=1)

    def outlook(self) -> Outlook:
        outlooks = [self._outlook(pool, arms) for pool, arms in self._offers]
        open_now = [outlook for outlook in outlooks if not outlook.full] or outlooks
        return Outlook(
            idle_budget_ms=min(outlook.idle_budget_ms for outlook in outlooks),
            now_budget_ms=min(outlook.now_budget_ms for outlook in open_now),
            retry_after_ms=min(outlook.retry_after_ms for outlook in outlooks),
            full=all(outlook.full for outlook in outlooks),
        )

    def job(self, plan: Plan) -> Job:
        request = self._request
        late_ms = 0.0
        if request.terms.on_miss is OnMiss.DEGRADE:
            late_ms = self._rules.late_limit_ms
        predictor = next(pool.predictor for pool, arms in self._offers if plan.arm in arms)
        estimate = Estimate(0.0, plan.decode_ms, plan.service_ms, plan.hop_ms, plan.reply_ms)
        return Job(
            id=request.id,
            arrived_ms=request.received_ms,
            deadline_ms=request.deadline_ms,
            expire_ms=request.deadline_ms + late_ms,
            picture=request.picture,
            terms=request.terms,
            plan=plan,
            expected_ms=estimate.slot_ms,
            tier=1 if plan.reason is Reason.DEGRADED else 0,
            margin_ms=predictor.margin_ms(estimate, self._rules.on_time_target),
        )

    def _candidates(self, *, tier: int) -> list[Candidate]:
        candidates = []
        left_ms = self._request.deadline_ms - self._now_ms
        for pool, arms in self._offers:
            if not pool.ledger.has_room(tier):
                continue
            wait_ms = pool.ledger.wait_ms(self._now_ms, self._request.deadline_ms, tier)
            picture = self._request.picture
            candidates += judge(pool.predictor, arms, picture, wait_ms=wait_ms, left_ms=left_ms)
        return candidates

    def _outlook(self, pool: Pool, arms: Sequence[Arm]) -> Outlook:
        estimates = [pool.predictor.expect(arm, self._request.picture, wait_ms=0.0) for arm in arms]
        estimate = min(estimates, key=lambda estimate: estimate.run_ms)
        target = self._rules.on_time_target
        spent_ms = self._now_ms - self._request.received_ms
        now_ms, next_free_ms = self._now_ms, pool.ledger.wait_ms(self._now_ms, -math.inf)
        wait_ms = pool.ledger.wait_ms(now_ms, self._request.deadline_ms)
        required_ms = pool.predictor.required_ms(replace(estimate, wait_ms=wait_ms), target)
        return Outlook(
            idle_budget_ms=spent_ms + pool.predictor.required_ms(estimate, target),
            now_budget_ms=self._accepted_ms(pool, estimate, wait_ms),
            retry_after_ms=max(
                1.0, next_free_ms, self._now_ms + required_ms - self._request.deadline_ms
            ),
            full=pool.ledger.full,
        )

    def _accepted_ms(self, pool: Pool, estimate: Estimate, wait_ms: float) -> float:
        """A larger budget lets more work go first, so the wait is followed to where it settles."""
        for _ in range(_PATIENCE):
            budget_ms = self._needed_ms(pool, estimate, wait_ms)
            settled_ms = pool.ledger.wait_ms(self._now_ms, self._request.received_ms + budget_ms)
            if settled_ms <= wait_ms:
                return budget_ms
            wait_ms = settled_ms
        return self._needed_ms(pool, estimate, pool.ledger.wait_ms(self._now_ms, math.inf))

    def _needed_ms(self, pool: Pool, estimate: Estimate, wait_ms: float) -> float:
        waiting = replace(estimate, wait_ms=wait_ms)
        required_ms = pool.predictor.required_ms(waiting, self._rules.on_time_target)
        return round_up(self._now_ms - self._request.received_ms + required_ms)


def judge(
    predictor: Predictor,
    arms: Sequence[Arm],
    picture: Picture,
    *,
    wait_ms: float,
    left_ms: float,
) -> list[Candidate]:
    """Each arm with its expected latency and its chance to be done in the time that is left."""
    candidates = []
    for arm in arms:
        estimate = predictor.expect(arm, picture, wait_ms=wait_ms)
        probability = predictor.on_time_probability(estimate, left_ms)
        candidates.append(Candidate(arm, estimate, probability))
    return candidates


def _candidates_now(pool: Pool, job: Job, now_ms: float) -> list[Candidate]:
    allowed = eligible(pool.arms, job.terms)
    arms = (job.arm,) if isinstance(allowed, Refusal) else allowed.arms
    left_ms = job.deadline_ms - now_ms
    return judge(pool.predictor, arms, job.picture, wait_ms=0.0, left_ms=left_ms)


def _gives_way(pool: Pool, job: Job, candidates: Sequence[Candidate]) -> bool:
    if job.tier or not pool.ledger.waiting(0):
        return False
    return max(candidate.on_time_probability for candidate in candidates) < HOPELESS


def _bind(
    pool: Pool, job: Job, candidates: Sequence[Candidate], *, now_ms: float, rules: Rules
) -> Run:
    chosen = rebind(
        candidates,
        job.plan,
        target=rules.on_time_target,
        limit_ms=_limit_ms(pool.ledger, job, now_ms),
        policy=rules.policy,
    )
    slot = pool.ledger.start(job.id, now_ms, expected_ms=chosen.estimate.slot_ms)
    reason = job.plan.reason if chosen.arm.id == job.arm.id else Reason.REBOUND
    waited = replace(chosen.estimate, wait_ms=now_ms - job.arrived_ms)
    plan = plan_of(replace(chosen, estimate=waited), reason)
    return Run(job, plan, chosen.estimate, slot)


def _limit_ms(ledger: Ledger, job: Job, now_ms: float) -> float:
    """How long the job may take a slot without harm to those that wait."""
    if job.tier:
        return job.expected_ms if ledger.depth else math.inf
    return job.expected_ms + ledger.spare_ms(now_ms, job.expected_ms)
