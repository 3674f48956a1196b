from collections.abc import Sequence
from dataclasses import replace

from mnv4serve.domain import OnMiss, Reason
from mnv4serve.router.jobs import Job
from mnv4serve.router.planner import Pool, arrived, dispatch
from mnv4serve.router.policies.priced import Priced
from tests.router.builders import (
    ARMS,
    RULES,
    SERVICE_MS,
    admitted,
    busy_pool,
    job,
    pool,
    refused,
    request,
    started,
)


def _stream(subject: Pool, *, gap_ms: float, n: int = 300, budget_ms: float = 40.0) -> float:
    """Lets requests arrive steadily and be served at once; when the last one came."""
    for number in range(n):
        now_ms = number * gap_ms
        wanted = request(budget_ms, id_=number, received_ms=now_ms)
        decided = admitted([subject], wanted, now_ms=now_ms)
        arrived([subject], wanted, decided, now_ms=now_ms)
        subject.ledger.admit(decided)
        run = started(subject, now_ms)
        assert run is not None
        subject.ledger.finish(run.id, now_ms)
    return now_ms


def _with_jobs(subject: Pool, jobs: Sequence[Job]) -> Pool:
    for one in jobs:
        assert subject.ledger.admit(replace(one, arms=ARMS))
    return subject


def _priced(subject: Pool) -> Priced:
    assert isinstance(subject.policy, Priced)
    return subject.policy


def test_time_costs_nothing_while_there_is_plenty() -> None:
    """Under a light load the most accurate arm in time is taken, and plans say so."""
    subject = pool(ARMS, SERVICE_MS, slots=2)
    now_ms = _stream(subject, gap_ms=60.0)

    decided = admitted([subject], request(40.0, received_ms=now_ms), now_ms=now_ms)

    assert _priced(subject).price == 0.0
    assert (decided.arm, decided.plan.reason) == (ARMS[2], Reason.MOST_ACCURATE_ON_TIME)


def test_a_load_makes_time_dear() -> None:
    """Where every request can have some three milliseconds, none takes nine, and plans say why."""
    subject = pool(ARMS, SERVICE_MS)
    now_ms = _stream(subject, gap_ms=3.0)
    wanted = request(40.0, id_=999, received_ms=now_ms)

    decided = admitted([subject], wanted, now_ms=now_ms)
    subject.ledger.admit(decided)
    run = started(subject, now_ms)

    assert run is not None
    assert (decided.arm, decided.plan.reason) == (ARMS[1], Reason.PRICED_DOWN)
    assert run.arm == ARMS[1]


def test_a_queue_makes_time_dear() -> None:
    """The more of it is waiting, the more a millisecond is worth."""
    prices = []
    for waiting in (1, 6, 14):
        subject = pool(ARMS, SERVICE_MS)
        now_ms = _stream(subject, gap_ms=5.0)
        jobs = [job(5000 + k, deadline_ms=now_ms + 40.0) for k in range(waiting)]
        started(_with_jobs(subject, jobs), now_ms)
        prices.append(_priced(subject).price)

    assert prices == sorted(prices)
    assert prices[0] < prices[-1]


def test_the_last_free_slot_is_kept_short_where_tight_budgets_are_usual() -> None:
    """A long run there would make those late that cannot wait; beside a free slot it does not."""
    arms = []
    for slots in (1, 2):
        subject = pool(ARMS, SERVICE_MS, slots=slots)
        now_ms = _stream(subject, gap_ms=12.0, budget_ms=3.0)
        started(_with_jobs(subject, [job(5000, deadline_ms=now_ms + 100.0)]), now_ms)
        run_arm = subject.ledger.running[0].expected_ms
        arms.append(run_arm)

    assert arms[0] < SERVICE_MS[2]
    assert arms[1] == SERVICE_MS[2]


def test_no_run_makes_a_promised_job_late() -> None:
    """However cheap time is, a waiting job that its fastest arm would serve in time stays so."""
    subject = pool(ARMS, SERVICE_MS)
    _with_jobs(subject, [job(1, deadline_ms=20.0), job(2, deadline_ms=20.1, margin_ms=14.0)])

    run = started(subject, 0.0)

    assert run is not None
    assert run.arm == ARMS[1]


def test_a_newcomer_that_would_break_a_promise_is_refused() -> None:
    """A request that would be on time, but only by making another one late, is not taken."""
    tight = _with_jobs(busy_pool([]), [job(1, deadline_ms=6.5, margin_ms=1.0)])
    loose = _with_jobs(busy_pool([]), [job(1, deadline_ms=8.5, margin_ms=1.0)])
    asked = request(6.0, on_miss=OnMiss.REFUSE)

    refusal = refused([tight], asked)

    assert refusal.smallest_feasible_budget_ms is not None
    assert admitted([loose], asked).tier == 0


def test_work_ahead_is_squeezed_before_anyone_is_refused() -> None:
    """A wait that is too long as reserved, but not on fastest arms, is no reason to refuse."""
    subject = busy_pool([])
    waiting = [replace(job(k, deadline_ms=20.0), expected_ms=9.0) for k in range(3)]
    _with_jobs(subject, waiting)

    decided = admitted([subject], request(22.0, on_miss=OnMiss.REFUSE))

    assert decided.arm == ARMS[0]
    assert decided.plan.wait_ms == 4.0 + 3 * 1.0


def test_a_hopeless_job_is_given_up_for_others() -> None:
    """Nobody waits for an answer that cannot come in time; who takes late ones gets one, last."""
    subject = pool(ARMS, SERVICE_MS)
    hopeless = job(1, deadline_ms=5.0)
    refusing = replace(hopeless, terms=replace(hopeless.terms, on_miss=OnMiss.REFUSE))
    _with_jobs(subject, [refusing, replace(hopeless, id=2, expire_ms=900.0)])
    _with_jobs(subject, [job(3, deadline_ms=9.0)])

    step = dispatch(subject, now_ms=4.9, rules=RULES)

    assert [one.id for one in step.shed] == [1]
    assert step.run is not None
    assert step.run.id == 3
    assert [(one.id, one.tier) for one in subject.ledger.ready(4.9)] == [(2, 1)]
