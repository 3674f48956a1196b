"""The two decisions about a request: at admission over all pools, at dispatch within its own.

Pure steps over values and ledgers: the caller passes the time in and does what was decided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mnv4serve.domain import Arm, OnMiss, Plan, Reason, Stages
from mnv4serve.router.offers import Offers, Pool, Request, Rules
from mnv4serve.router.policy import (
    Candidate,
    Refusal,
    choose,
    eligible,
    plan_of,
    rebind,
)
from mnv4serve.router.predict import Estimate, Predictor
from mnv4serve.router.schedule import Job, Ledger

__all__ = [
    "Pool",
    "Request",
    "Rules",
    "Run",
    "admit",
    "dispatch",
    "learn",
    "learn_expired",
]

HOPELESS = 0.02
"""Below this probability a job gives way, at dispatch, to work that can still be on time."""


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
    offers = Offers(pools, allowed.arms, request, now_ms=now_ms, rules=rules)
    plan = choose(
        offers.likely(),
        request.terms,
        target=rules.on_time_target,
        fallback=offers,
        reason=allowed.reason,
        policy=rules.policy,
    )
    if isinstance(plan, Refusal):
        return plan
    owner = next(pool for pool in pools if plan.arm in pool.arms)
    return _job(request, plan, owner.predictor, rules)


def dispatch(pool: Pool, *, now_ms: float, rules: Rules) -> Run | None:
    """Start the next job on an idle slot of the ledger, planned again; None if there is none."""
    while (job := pool.ledger.pop(now_ms)) is not None:
        candidates = _candidates(pool, job, now_ms)
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


def _job(request: Request, plan: Plan, predictor: Predictor, rules: Rules) -> Job:
    degraded = plan.reason is Reason.DEGRADED
    late_ms = rules.late_limit_ms if request.terms.on_miss is OnMiss.DEGRADE else 0.0
    run = Estimate(0.0, plan.decode_ms, plan.service_ms, plan.hop_ms, plan.reply_ms)
    return Job(
        id=request.id,
        arrived_ms=request.received_ms,
        deadline_ms=request.deadline_ms,
        expire_ms=request.deadline_ms + late_ms,
        picture=request.picture,
        terms=request.terms,
        plan=plan,
        expected_ms=run.slot_ms,
        tier=1 if degraded else 0,
        margin_ms=predictor.margin_ms(run, rules.on_time_target),
    )


def _candidates(pool: Pool, job: Job, now_ms: float) -> list[Candidate]:
    allowed = eligible(pool.arms, job.terms)
    arms = (job.arm,) if isinstance(allowed, Refusal) else allowed.arms
    candidates = []
    for arm in arms:
        estimate = pool.predictor.expect(arm, job.picture, wait_ms=0.0)
        probability = pool.predictor.on_time_probability(estimate, job.deadline_ms - now_ms)
        candidates.append(Candidate(arm, estimate, probability))
    return candidates


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
    waited = chosen.estimate.after(now_ms - job.arrived_ms)
    plan = plan_of(replace(chosen, estimate=waited), reason)
    return Run(job, plan, chosen.estimate, slot)


def _limit_ms(ledger: Ledger, job: Job, now_ms: float) -> float:
    """How long the job may take a slot without harm to those that wait; degraded work always is."""
    if not ledger.depth:
        return math.inf
    if job.tier or ledger.waiting(1):
        return job.expected_ms
    return job.expected_ms + ledger.spare_ms(now_ms, job.expected_ms)
