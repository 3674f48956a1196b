"""The two decisions about a request: at admission over all pools, at dispatch within its own.

Pure steps over values and ledgers: the caller passes the time in and does what was decided.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm, OnMiss, Plan, Reason
from mnv4serve.router.eligible import eligible
from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.offers import Offers, Pool, Rules
from mnv4serve.router.policy import Candidate, Order, View, plan_of
from mnv4serve.router.refusal import Refusal, RefusalKind, refuse

__all__ = [
    "Pool",
    "Rules",
    "Step",
    "admit",
    "arrived",
    "dispatch",
    "learn",
    "learn_expired",
]


@dataclass(frozen=True, slots=True)
class Step:
    """What one look at a pool with an idle slot led to."""

    run: Run | None = None
    """To be started on its slot, which the ledger has occupied already."""
    shed: tuple[Job, ...] = ()
    """Given up and out of the queue: their callers are told at once."""


def admit(
    pools: Sequence[Pool],
    request: Request,
    *,
    now_ms: float,
    rules: Rules,
    down: Sequence[Arm] = (),
) -> Job | Refusal:
    """Decide on a request; the job still has to be admitted to the ledger of its arm's device.

    Changes nothing, so that a plan can be asked for without being carried out.
    """
    terms = request.terms
    considered = [arm for pool in pools for arm in pool.considered(terms)]
    allowed = eligible(considered, terms, down=down)
    if isinstance(allowed, Refusal):
        return allowed
    offers = Offers(pools, allowed.arms, request, now_ms=now_ms, rules=rules)
    job = offers.best(allowed.reason)
    if job is not None:
        return job
    if request.terms.on_miss is OnMiss.REFUSE:
        return refuse(request.terms, offers.outlook())
    late = offers.degraded()
    if late is not None:
        return late
    outlook = offers.outlook()
    return Refusal(RefusalKind.QUEUE_FULL, outlook.now_budget_ms, outlook.retry_after_ms)


def arrived(
    pools: Sequence[Pool], request: Request, decision: Job | Refusal, *, now_ms: float
) -> None:
    """Tell the policies of a request that was decided on: its pool's, or all where it was refused.

    Not to be called for plans that are only asked for.
    """
    for pool in pools:
        if isinstance(decision, Refusal) or pool.device == decision.arm.device:
            pool.policy.observe_arrival(request, now_ms=now_ms)


def dispatch(pool: Pool, *, now_ms: float, rules: Rules) -> Step:
    """Start the next run on an idle slot of the ledger, planned again.

    To be called again until it starts nothing.
    """
    shed: tuple[Job, ...] = ()
    while pool.ledger.idle_slots:
        jobs = pool.ledger.ready(now_ms)
        if not jobs:
            break
        view = pool.view(now_ms, rules)
        order = pool.policy.order(jobs, view)
        shed += tuple(job for job in order.shed if _give_up(pool, job))
        if order.arm is not None:
            members = _members(order, order.arm)
            return Step(_start(pool, view, order.arm, members), shed)
        if not order.shed:
            break
    return Step(None, shed)


def learn(pool: Pool, run: Run, spent: Spent, *, now_ms: float) -> None:
    """Teach the pool's predictor and policy what became of a run."""
    pool.predictor.observe(run.arm, [job.picture for job in run.jobs], run.estimate, spent)
    for job, plan in zip(run.jobs, run.plans, strict=True):
        if _in_order(job):
            pool.predictor.observe_wait(
                expected_ms=job.plan.wait_ms, actual_ms=plan.wait_ms, budget_ms=job.terms.budget_ms
            )
    pool.policy.observe_run(run, spent, now_ms=now_ms)


def learn_expired(pool: Pool, job: Job, *, now_ms: float) -> None:
    """Teach the pool's predictor that a job gave up waiting."""
    waited_ms = now_ms - job.arrived_ms
    if _in_order(job) and waited_ms > job.plan.wait_ms:
        pool.predictor.observe_wait(
            expected_ms=job.plan.wait_ms, actual_ms=waited_ms, budget_ms=job.terms.budget_ms
        )


def _in_order(job: Job) -> bool:
    """Whether its wait was foretold at its deadline's place, not behind all other work."""
    return job.tier == 0 or job.plan.reason is not Reason.DEGRADED


def _give_up(pool: Pool, job: Job) -> bool:
    """Whether the job left the queue; callers that take late answers get one, behind all else."""
    if job.terms.on_miss is OnMiss.DEGRADE and job.tier == 0:
        pool.ledger.demote(job.id)
        return False
    return pool.ledger.remove(job.id)


def _members(order: Order, arm: Arm) -> tuple[Job, ...]:
    """A batch runs one arm, which every member's pins and floor must allow."""
    return tuple(job for job in order.jobs if any(one is arm for one in job.arms))


def _start(pool: Pool, view: View, arm: Arm, jobs: tuple[Job, ...]) -> Run:
    estimate = view.together(arm, jobs)
    plans = tuple(_plan(view, job, arm, estimate) for job in jobs)
    for job in jobs:
        pool.ledger.remove(job.id)
    slot = pool.ledger.start(jobs[0].id, view.now_ms, expected_ms=estimate.slot_ms, arm_id=arm.id)
    return Run(jobs, plans, estimate, slot)


def _plan(view: View, job: Job, arm: Arm, estimate: Estimate) -> Plan:
    waited = estimate.after(view.now_ms - job.arrived_ms)
    reason = job.plan.reason if arm.id == job.arm.id else Reason.REBOUND
    return plan_of(Candidate(arm, waited, view.probability(estimate, job)), reason)
