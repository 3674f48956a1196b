import random
from dataclasses import replace
from heapq import heappop, heappush

import pytest

from mnv4serve.domain import Arm, OnMiss, Reason, Terms
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.planner import Pool, admit, arrived, learn, learn_expired
from mnv4serve.router.refusal import Refusal, RefusalKind
from tests.router.builders import (
    ARMS,
    DECODE,
    PHOTO,
    RULES,
    SERVICE_MS,
    admitted,
    busy_pool,
    job,
    plan,
    pool,
    refused,
    request,
    started,
)


@pytest.mark.parametrize(
    ("budget_ms", "variant"), [(2.0, "v0"), (6.0, "v1"), (20.0, "v2"), (100.0, "v2")]
)
def test_an_idle_pool_gives_the_most_accurate_arm_in_time(budget_ms: float, variant: str) -> None:
    """The larger the budget, the more accurate the arm."""
    decided = admitted([pool(ARMS, SERVICE_MS)], request(budget_ms))

    assert decided.arm.variant == variant
    assert decided.plan.on_time_probability >= 0.95
    assert decided.tier == 0
    assert decided.deadline_ms == budget_ms


def test_decoding_counts_for_the_choice() -> None:
    """A large picture leaves less time, so the arm is a faster one."""
    pools = [pool(ARMS, SERVICE_MS, decode=DECODE)]
    large = replace(PHOTO, n_bytes=2_500_000)

    small_arm = admitted(pools, Request(1, large, Terms(budget_ms=14.5), 0.0)).arm
    usual_arm = admitted(pools, Request(1, PHOTO, Terms(budget_ms=14.5), 0.0)).arm

    assert (small_arm.variant, usual_arm.variant) == ("v0", "v2")


def test_time_spent_before_admission_is_gone() -> None:
    """The budget runs from the arrival of the request, not from its admission."""
    pools = [pool(ARMS, SERVICE_MS)]

    late = admitted(pools, request(20.0, received_ms=50.0), now_ms=60.0)

    assert late.arm.variant == "v1"
    assert late.deadline_ms == 70.0


def test_late_answers_are_limited() -> None:
    """Where degrading is allowed a job lives until the late limit, otherwise until its budget."""
    pools = [pool(ARMS, SERVICE_MS)]

    degrade = admitted(pools, request(50.0))
    refuse = admitted(pools, request(50.0, on_miss=OnMiss.REFUSE))

    assert (degrade.expire_ms, refuse.expire_ms) == (1050.0, 50.0)


def test_a_pin_reaches_through_to_the_plan() -> None:
    """Pins restrict the arms of every pool; what none satisfies is refused with what there is."""
    pools = [pool(ARMS, SERVICE_MS)]
    pinned = Request(1, PHOTO, Terms(variant="v0"), 0.0)
    unknown = Request(1, PHOTO, Terms(variant="x"), 0.0)

    decided = admitted(pools, pinned)
    refusal = refused(pools, unknown)

    assert (decided.arm.variant, decided.plan.reason) == ("v0", Reason.PINNED)
    assert refusal == Refusal(RefusalKind.NO_SUCH_ARM, available=ARMS)


def test_dispatch_binds_and_occupies_a_slot() -> None:
    """The next job is started on an idle slot with what its arm is expected to take."""
    subject = pool(ARMS, SERVICE_MS, slots=2)
    waiting = admitted([subject], request(30.0))
    subject.ledger.admit(waiting)

    run = started(subject, 2.0)

    assert run is not None
    assert (run.jobs[0], run.slot, run.plans[0].arm) == (waiting, 0, ARMS[2])
    assert run.plans[0].reason is Reason.MOST_ACCURATE_ON_TIME
    assert (run.plans[0].wait_ms, run.estimate.wait_ms) == (2.0, 0.0)
    assert run.plans[0].predicted_ms == pytest.approx(2.0 + 9.0 + 0.1)
    assert subject.ledger.running[0].expected_ms == 9.0
    assert started(subject, 2.0) is None


def test_dispatch_upgrades_when_the_wait_was_shorter_than_expected() -> None:
    """Time that was not needed for waiting goes into accuracy."""
    subject = busy_pool([])
    waiting = admitted([subject], request(13.0))
    subject.ledger.admit(waiting)
    subject.ledger.finish(1000, 0.5)

    run = started(subject, 0.5)

    assert run is not None
    assert (waiting.arm, run.plans[0].arm) == (ARMS[1], ARMS[2])
    assert run.plans[0].reason is Reason.REBOUND


def test_dispatch_downgrades_when_the_wait_was_longer() -> None:
    """A job that lost time is still on time with a faster arm."""
    subject = pool(ARMS, SERVICE_MS)
    subject.ledger.admit(admitted([subject], request(12.0)))

    run = started(subject, 6.0)

    assert run is not None
    assert (run.plans[0].arm, run.plans[0].reason) == (ARMS[1], Reason.REBOUND)


def test_dispatch_keeps_pins() -> None:
    """Planning again never leaves the terms, even where another arm would be on time."""
    subject = pool(ARMS, SERVICE_MS)
    pinned = Request(1, PHOTO, Terms(budget_ms=12.0, variant="v2"), 0.0)
    subject.ledger.admit(admitted([subject], pinned))

    run = started(subject, 8.0)

    assert run is not None
    assert (run.plans[0].arm, run.plans[0].reason) == (ARMS[2], Reason.PINNED)


def test_an_upgrade_must_not_make_others_late() -> None:
    """Where a job waits that would be late after an upgrade, there is none."""
    subject = busy_pool([(14.0, 6.0)])
    subject.ledger.admit(admitted([subject], request(13.0)))
    subject.ledger.finish(1000, 0.5)

    run = started(subject, 0.5)

    assert run is not None
    assert run.plans[0].arm == ARMS[1]


@pytest.mark.parametrize(
    ("now_ms", "arm", "reason"), [(0.1, ARMS[1], Reason.REBOUND), (4.5, ARMS[0], Reason.DEGRADED)]
)
def test_degraded_work_is_fast_unless_there_is_time_after_all(
    now_ms: float, arm: Arm, reason: Reason
) -> None:
    """A degraded job takes the fastest arm, and a better one where that is on time."""
    subject = busy_pool([])
    decided = admitted([subject], request(4.9))
    assert decided.plan.reason is Reason.DEGRADED
    subject.ledger.admit(decided)
    subject.ledger.finish(1000, now_ms)

    run = started(subject, now_ms)

    assert run is not None
    assert (run.plans[0].arm, run.plans[0].reason) == (arm, reason)


def test_a_hopeless_job_lets_others_go_first() -> None:
    """A job that no arm can finish in time does not make the next one late as well."""
    subject = pool(ARMS, SERVICE_MS)
    for number, budget_ms in ((1, 10.0), (2, 11.5)):
        subject.ledger.admit(admitted([subject], request(budget_ms, id_=number)))

    runs = []
    for _ in range(2):
        run = started(subject, 9.5)
        assert run is not None
        subject.ledger.finish(run.id, 9.5)
        runs.append(run)

    assert [run.id for run in runs] == [2, 1]
    assert runs[0].plans[0].on_time_probability >= 0.95


def test_learning_from_a_run_reaches_the_predictor() -> None:
    """A run that took twice as long raises the slowdown."""
    subject = pool(ARMS, SERVICE_MS)
    subject.ledger.admit(admitted([subject], request(30.0)))
    run = started(subject, 0.0)
    assert run is not None

    learn(subject, run, Spent(0.0, 18.0, 18.1), now_ms=18.1)

    assert subject.predictor.slowdown > 1.05


@pytest.mark.parametrize(
    ("reason", "tier", "expected"),
    [
        (Reason.MOST_ACCURATE_ON_TIME, 0, True),
        (Reason.DEGRADED, 0, True),
        (Reason.DEGRADED, 1, False),
    ],
)
def test_jobs_that_gave_up_waiting_are_learnt_from(
    *, reason: Reason, tier: int, expected: bool
) -> None:
    """They make waits look longer, unless they were told to wait behind everything anyway."""
    subject = pool(ARMS, SERVICE_MS)
    estimate = subject.predictor.expect(ARMS[0], PHOTO, wait_ms=10.0)
    before = subject.predictor.on_time_probability(estimate, 16.0)
    waiting = job(1, deadline_ms=50.0, tier=tier)
    waiting = replace(waiting, terms=replace(waiting.terms, budget_ms=16.0))
    gave_up = replace(waiting, plan=replace(plan(reason=reason), wait_ms=10.0))

    for _ in range(64):
        learn_expired(subject, gave_up, now_ms=50.0)
        learn_expired(subject, gave_up, now_ms=5.0)

    assert (subject.predictor.on_time_probability(estimate, 16.0) < before) is expected


def test_admitted_requests_are_on_time_as_promised() -> None:
    """In a simulated service at moderate load, those admitted as on time mostly are."""
    results = _simulate(pool(ARMS, SERVICE_MS, slots=2), n=1000, gap_ms=8.0, seed=7)

    likely = [r for r in results if r.promised]
    assert len(likely) > 0.9 * len(results)
    assert sum(r.on_time for r in likely) / len(likely) > 0.95
    assert sum(r.accuracy for r in likely) / len(likely) > 0.72


def test_overload_does_not_spoil_work_that_was_promised() -> None:
    """When more arrives than can be served, what was admitted as on time mostly still is."""
    results = _simulate(pool(ARMS, SERVICE_MS, slots=2), n=3000, gap_ms=0.35, seed=8)

    likely = [r for r in results if r.promised]
    assert 1500 < len(likely) < 2900
    assert sum(r.on_time for r in likely) / len(likely) > 0.95


def test_a_flood_of_impossible_budgets_leaves_no_trace() -> None:
    """Each is refused from the estimates alone: nothing is queued, counted or learnt."""
    subject = busy_pool([(50.0, 3.0)])
    usual = admitted([subject], request(60.0))

    for number in range(500):
        impossible = request(0.2, id_=number, on_miss=OnMiss.REFUSE)
        assert refused([subject], impossible).kind is RefusalKind.INFEASIBLE

    assert subject.ledger.depth == 1
    assert admitted([subject], request(60.0)) == usual


def test_a_clock_that_jumps_back_harms_no_decision() -> None:
    """Jobs admitted at a later time than now are still run, once each, on slots that are freed."""
    subject = pool(ARMS, SERVICE_MS, slots=2)
    for number, now_ms in enumerate((100.0, 50.0, 120.0, 20.0), start=1):
        wanted = request(500.0, id_=number, received_ms=now_ms)
        decided = admitted([subject], wanted, now_ms=now_ms)
        arrived([subject], wanted, decided, now_ms=now_ms)
        subject.ledger.admit(decided)

    ran = []
    for now_ms in (10.0, 5.0, 90.0, 30.0):
        run = started(subject, now_ms)
        assert run is not None
        assert run.estimate.slot_ms > 0.0
        subject.ledger.finish(run.id, now_ms - 1.0)
        learn(subject, run, Spent(0.0, 1.0, 1.0), now_ms=now_ms - 1.0)
        ran.append(run.id)

    assert sorted(ran) == [1, 2, 3, 4]
    assert subject.ledger.idle_slots == 2


class _Result:
    def __init__(self, run: Run, end_ms: float) -> None:
        self.promised = run.jobs[0].plan.reason is not Reason.DEGRADED
        self.on_time = end_ms + 0.1 <= run.jobs[0].deadline_ms
        self.accuracy = run.plans[0].arm.accuracy or 0.0


def _still_waiting(subject: Pool, jobs: list[Job], now_ms: float) -> list[Job]:
    """Take out of the queue whose time is over."""
    for job_ in jobs:
        if job_.expire_ms <= now_ms and subject.ledger.remove(job_.id):
            learn_expired(subject, job_, now_ms=now_ms)
    return [job_ for job_ in jobs if job_.expire_ms > now_ms]


def _simulate(subject: Pool, *, n: int, gap_ms: float, seed: int) -> list[_Result]:
    """Poisson arrivals with mixed budgets, log-normal run times, from event to event."""
    generator = random.Random(seed)
    events: list[tuple[float, int, Run | None]] = []
    results: list[_Result] = []
    waiting: list[Job] = []
    now_ms = 0.0
    for number in range(n):
        now_ms += generator.expovariate(1.0 / gap_ms)
        heappush(events, (now_ms, number, None))
    while events:
        now_ms, number, ended = heappop(events)
        if ended is None:
            budget_ms = generator.choice((5.0, 10.0, 20.0, 50.0))
            wanted = request(budget_ms, id_=number, received_ms=now_ms)
            decided = admit([subject], wanted, now_ms=now_ms, rules=RULES)
            arrived([subject], wanted, decided, now_ms=now_ms)
            if isinstance(decided, Job):
                subject.ledger.admit(decided)
                waiting.append(decided)
        else:
            subject.ledger.finish(number, now_ms)
            results.append(_Result(ended, now_ms))
            run_ms = now_ms - ended.jobs[0].arrived_ms - ended.plans[0].wait_ms
            learn(subject, ended, Spent(0.0, run_ms, run_ms), now_ms=now_ms)
        waiting = _still_waiting(subject, waiting, now_ms)
        while (run := started(subject, now_ms)) is not None:
            took_ms = run.estimate.service_ms / subject.predictor.slowdown
            took_ms *= generator.lognormvariate(0.0, 0.12)
            heappush(events, (now_ms + took_ms, run.id, run))
    return results
