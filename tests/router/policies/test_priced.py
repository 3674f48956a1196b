from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import Arm, OnMiss, Reason, Terms
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Pool, arrived, dispatch
from mnv4serve.router.policies.priced import TRY, Priced
from mnv4serve.router.predict import Predictor
from tests.router.builders import (
    ARMS,
    FREE,
    PHOTO,
    RULES,
    SERVICE_MS,
    admitted,
    arm,
    arms_of,
    busy_pool,
    candidate,
    job,
    pool,
    refused,
    request,
    started,
    timing,
)


@given(
    st.lists(
        st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 20.0), st.sampled_from([0.5, 0.96, 1.0])),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.0, 0.2),
)
def test_a_bid_is_for_the_likely_arm_that_is_worth_most(
    rows: list[tuple[float, float, float]], price: float
) -> None:
    """Although hardly any arm is asked how likely it is."""
    subject = pool(ARMS, SERVICE_MS)
    _priced(subject).market.price = price
    candidates = [
        candidate(arm(f"v{number}", accuracy=accuracy), run_ms=run_ms, probability=probability)
        for number, (accuracy, run_ms, probability) in enumerate(rows)
    ]

    bid = subject.policy.bid(candidates, request(100.0), subject.view(0.0, RULES))

    worths = [
        probability * accuracy - price * run_ms
        for accuracy, run_ms, probability in rows
        if probability >= RULES.on_time_target
    ]
    if worths:
        assert bid is not None
        assert bid.value == max(worths)
        assert bid.likely


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


def _arm_of_next_run(subject: Pool, now_ms: float) -> Arm:
    run = started(subject, now_ms)
    assert run is not None
    return run.arm


def _priced(subject: Pool) -> Priced:
    assert isinstance(subject.policy, Priced)
    return subject.policy


def test_time_costs_nothing_while_there_is_plenty() -> None:
    """Under a light load the most accurate arm in time is taken, and plans say so."""
    subject = pool(ARMS, SERVICE_MS, slots=2)
    now_ms = _stream(subject, gap_ms=60.0)

    decided = admitted([subject], request(40.0, received_ms=now_ms), now_ms=now_ms)

    assert _priced(subject).market.price == 0.0
    assert (decided.arm, decided.plan.reason) == (ARMS[2], Reason.MOST_ACCURATE_ON_TIME)


def test_what_counts_is_the_accuracy_to_expect() -> None:
    """A little accuracy is not worth a larger risk of being late, also above the target."""
    subject = pool(ARMS, SERVICE_MS)
    view = subject.view(0.0, RULES)
    sure = candidate(arm("sure", accuracy=0.86), probability=1.0)
    risky = candidate(arm("risky", accuracy=0.88), probability=0.95)
    better = candidate(arm("better", accuracy=0.88), probability=0.99)

    taken = [Priced().bid([sure, other], request(20.0), view) for other in (risky, better)]

    assert [bid.candidate.arm.variant for bid in taken if bid] == ["sure", "better"]


def test_an_unlikely_job_runs_what_is_worth_most_all_the_same() -> None:
    """Where no arm reaches the target the fastest need not be the best chance."""
    arms = arms_of(0.5, 0.9)
    subject = pool(arms, (9.0, 9.2))
    late = replace(job(1, deadline_ms=9.3), arms=arms)
    view = subject.view(0.0, RULES)
    chances = [c.on_time_probability for c in view.candidates(late)]

    order = Priced().order([late], view)

    assert all(0.0 < chance < RULES.on_time_target for chance in chances)
    assert order.arm is arms[1]


def test_where_nothing_can_be_on_time_any_more_the_fastest_arm_runs() -> None:
    """However the arms are listed: a late answer should at least not be later."""
    arms = arms_of(0.9, 0.5, 0.8)
    subject = pool(arms, (9.0, 1.0, 3.0))
    late = replace(job(1, deadline_ms=0.1, late_ms=1000.0), arms=arms)

    order = Priced().order([late], subject.view(0.0, RULES))

    assert order.arm is arms[1]


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
        prices.append(_priced(subject).market.price)

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


def test_a_slot_beside_others_that_are_usually_taken_is_kept_short() -> None:
    """That one is free just now does not mean that the next tight request finds it so."""
    arms = []
    for taken_ms in (0.5, 11.0):
        subject = pool(ARMS, SERVICE_MS, slots=2)
        now_ms = _stream(subject, gap_ms=6.0, budget_ms=3.0)
        for _ in range(64):
            now_ms += 6.0
            _priced(subject).market.ran(taken_ms, now_ms)
            _priced(subject).market.arrived(request(3.0, received_ms=now_ms), now_ms)
        waiting = job(5000, deadline_ms=now_ms + 100.0)
        arms.append(_arm_of_next_run(_with_jobs(subject, [waiting]), now_ms))

    assert arms == [ARMS[2], ARMS[1]]


def test_what_cannot_be_promised_is_tried_where_it_may_well_be_on_time() -> None:
    """Refused only where it is more likely late than not; a try is no promise, and says so."""
    tried = admitted([pool(ARMS, SERVICE_MS)], request(1.2, on_miss=OnMiss.REFUSE))

    assert tried.tier == 0
    assert tried.plan.reason is Reason.DEGRADED
    assert TRY <= tried.plan.on_time_probability < RULES.on_time_target
    refused([pool(ARMS, SERVICE_MS)], request(1.0, on_miss=OnMiss.REFUSE))


def test_nothing_is_tried_that_would_cost_others_more() -> None:
    """A job that waits keeps its place; a try may not make it late."""
    tight = _with_jobs(busy_pool([]), [job(1, deadline_ms=6.5, margin_ms=1.0)])
    free = busy_pool([])
    asked = request(5.25, on_miss=OnMiss.REFUSE)

    assert admitted([free], asked).plan.reason is Reason.DEGRADED
    refused([tight], asked)


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


def _batching(services_ms: Sequence[tuple[float, float]]) -> Pool:
    """A pool whose arms take these times alone and as a batch of four."""
    made = pool(ARMS, SERVICE_MS)
    timings = {
        one.id: {1: timing(alone_ms), 4: timing(batch_ms)}
        for one, (alone_ms, batch_ms) in zip(ARMS, services_ms, strict=True)
    }
    return replace(made, predictor=Predictor(timings=timings, decode=FREE, reply_ms=0.1))


def test_a_batch_runs_where_time_is_dear_and_all_are_on_time() -> None:
    """Under a load that single runs could not carry, waiting jobs share one."""
    subject = _batching([(1.0, 1.2), (3.0, 3.6), (9.0, 11.0)])
    now_ms = _stream(subject, gap_ms=0.9)
    _with_jobs(subject, [job(5000 + k, deadline_ms=now_ms + 30.0) for k in range(4)])

    run = started(subject, now_ms)

    assert run is not None
    assert len(run.jobs) == 4
    assert run.estimate.slot_ms > 0.0
    assert all(plan.on_time_probability >= 0.95 for plan in run.plans)
    assert subject.ledger.depth == 0


def test_nothing_waits_for_a_batch_or_batches_what_gains_nothing() -> None:
    """A job that is alone starts at once; batches that take as long as single runs are not made."""
    alone = _batching([(1.0, 1.2), (3.0, 3.6), (9.0, 11.0)])
    useless = _batching([(1.0, 4.0), (3.0, 12.0), (9.0, 36.0)])
    sizes = []
    for subject, waiting in ((alone, 1), (useless, 4)):
        now_ms = _stream(subject, gap_ms=0.9)
        _with_jobs(subject, [job(5000 + k, deadline_ms=now_ms + 30.0) for k in range(waiting)])
        run = started(subject, now_ms)
        assert run is not None
        sizes.append(len(run.jobs))

    assert sizes == [1, 1]


def test_a_member_that_a_batch_would_make_late_keeps_it_from_running() -> None:
    """A batch takes longer than one run, and the tightest member must still be on time."""
    subject = _batching([(1.0, 3.0), (3.0, 9.0), (9.0, 27.0)])
    now_ms = _stream(subject, gap_ms=0.9)
    jobs = [job(5000 + k, deadline_ms=now_ms + (2.0 if k == 0 else 30.0)) for k in range(4)]
    _with_jobs(subject, jobs)

    run = started(subject, now_ms)

    assert run is not None
    assert [one.id for one in run.jobs] == [5000]


def test_a_batch_keeps_to_what_every_member_allows() -> None:
    """Only an arm that all members may get is taken for them."""
    subject = _batching([(1.0, 1.2), (3.0, 3.6), (9.0, 11.0)])
    now_ms = _stream(subject, gap_ms=0.9)
    jobs = [job(5000 + k, deadline_ms=now_ms + 30.0) for k in range(4)]
    _with_jobs(subject, jobs[:3])
    subject.ledger.admit(replace(jobs[3], arms=ARMS[1:2]))

    run = started(subject, now_ms)

    assert run is not None
    assert len(run.jobs) == 1 or run.arm == ARMS[1]


def test_arms_of_unknown_accuracy_have_no_price_and_still_run() -> None:
    """Where nobody knows what an answer is worth, a pin is served as it comes."""
    unknown = arm("mystery", accuracy=None)
    subject = pool([unknown], [2.0])
    pinned = Request(1, PHOTO, Terms(budget_ms=50.0, variant="mystery"), 0.0)

    decided = admitted([subject], pinned)
    subject.ledger.admit(decided)
    run = started(subject, 0.0)

    assert run is not None
    assert (run.arm, run.plans[0].reason) == (unknown, Reason.PINNED)
    assert _priced(subject).market.price == 0.0
