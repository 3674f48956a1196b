import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnv4serve.router.jobs import Job
from mnv4serve.router.schedule import OVERRUN_SHARE, Ledger
from tests.router.builders import job, taken

times = st.floats(0.0, 100.0)
_jobs = st.lists(st.tuples(times, st.floats(0.1, 20.0), st.integers(0, 1)), max_size=20).map(
    lambda rows: [
        job(number, deadline_ms=deadline, expected_ms=expected, tier=tier, late_ms=1000.0)
        for number, (deadline, expected, tier) in enumerate(rows)
    ]
)
_running = st.lists(st.tuples(st.floats(0.0, 50.0), st.floats(0.1, 50.0)), max_size=4)


def _ledger(
    jobs: list[Job],
    *,
    slots: int = 1,
    running: list[tuple[float, float]] | None = None,
    max_queue: int = 64,
) -> Ledger:
    """At time zero, with runs of (elapsed, expected) and these jobs waiting."""
    ledger = Ledger(slots=slots, max_queue=max_queue)
    for number, (elapsed_ms, expected_ms) in enumerate((running or [])[:slots]):
        ledger.start(1000 + number, -elapsed_ms, expected_ms=expected_ms)
    for waiting in jobs:
        ledger.admit(waiting)
    return ledger


def _order(job: Job) -> tuple[int, float]:
    return job.tier, job.deadline_ms


def _simulated_wait(ahead: list[Job], *, slots: int, running: list[tuple[float, float]]) -> float:
    """When list scheduling would start one more job, told by stepping from event to event."""
    busy_until = [max(e - elapsed, OVERRUN_SHARE * elapsed) for elapsed, e in running[:slots]]
    now, waiting = 0.0, list(ahead)
    while True:
        busy_until = [end for end in busy_until if end > now]
        while waiting and len(busy_until) < slots:
            busy_until.append(now + waiting.pop(0).expected_ms)
        if len(busy_until) < slots:
            return now
        now = min(busy_until)


@given(_jobs, st.integers(1, 4), _running, times, st.integers(0, 1))
def test_wait_is_what_list_scheduling_gives(
    jobs: list[Job],
    slots: int,
    running: list[tuple[float, float]],
    deadline_ms: float,
    tier: int,
) -> None:
    """The wait equals a step-by-step simulation of all work that goes first."""
    ledger = _ledger(jobs, slots=slots, running=running)

    wait_ms = ledger.wait_ms(0.0, deadline_ms, tier)

    ahead = sorted((j for j in jobs if _order(j) <= (tier, deadline_ms)), key=_order)
    expected = _simulated_wait(ahead, slots=slots, running=running)
    assert wait_ms == pytest.approx(expected)


@given(_jobs, st.integers(1, 3), _running, times, times)
def test_wait_never_shrinks_with_a_later_deadline(
    jobs: list[Job],
    slots: int,
    running: list[tuple[float, float]],
    deadline_ms: float,
    later_ms: float,
) -> None:
    """A later deadline waits at least as long, and degraded work longer than any other."""
    ledger = _ledger(jobs, slots=slots, running=running)

    waits = [
        ledger.wait_ms(0.0, -math.inf),
        ledger.wait_ms(0.0, deadline_ms),
        ledger.wait_ms(0.0, deadline_ms + later_ms),
        ledger.wait_ms(0.0, math.inf),
        ledger.wait_ms(0.0, -math.inf, tier=1),
        ledger.wait_ms(0.0, math.inf, tier=1),
    ]

    assert waits == sorted(waits)
    assert waits[0] >= 0.0


@given(_jobs)
def test_jobs_come_out_by_tier_then_deadline_then_arrival(jobs: list[Job]) -> None:
    """Earliest deadline first, first come first served among equals, degraded work last."""
    ledger = _ledger(jobs)

    popped = []
    while (following := taken(ledger, -1.0)) is not None:
        popped.append(following)

    assert popped == sorted(jobs, key=_order)
    assert ledger.depth == 0


@given(_jobs, st.sets(st.integers(0, 19)), times)
def test_every_job_leaves_once(jobs: list[Job], removed: set[int], now_ms: float) -> None:
    """Removed, expired and popped jobs are together all that were admitted, each of them once."""
    jobs = [replace(j, expire_ms=j.deadline_ms) for j in jobs]
    ledger = _ledger(jobs)

    left = [number for number in range(20) if number in removed and ledger.remove(number)]
    again = [number for number in removed if ledger.remove(number)]
    expired = [j for j in jobs if j.expire_ms <= now_ms and ledger.remove(j.id)]
    popped = []
    while (following := taken(ledger, now_ms)) is not None:
        popped.append(following)

    kept = [j for j in jobs if j.id not in removed]
    assert left == [j.id for j in jobs if j.id in removed]
    assert again == []
    assert sorted(j.id for j in expired) == [j.id for j in kept if j.expire_ms <= now_ms]
    assert sorted(j.id for j in popped) == [j.id for j in kept if j.expire_ms > now_ms]
    assert ledger.depth == 0


def test_an_expired_job_is_never_run() -> None:
    """A job whose time has run out stays until it is taken out, and is not popped."""
    ledger = _ledger([job(1, deadline_ms=5.0), job(2, deadline_ms=9.0)])

    popped = taken(ledger, 5.0)

    assert popped is not None
    assert popped.id == 2
    assert taken(ledger, 5.0) is None
    assert ledger.depth == 1
    assert ledger.remove(1)


def test_a_late_job_gives_way_to_one_that_can_be_on_time() -> None:
    """A job past its deadline that may still be answered late goes behind all that is on time."""
    ledger = _ledger([job(1, deadline_ms=5.0, late_ms=100.0), job(2, deadline_ms=50.0)])

    order = [taken(ledger, 6.0), taken(ledger, 6.0)]

    assert [(j.id, j.tier) for j in order if j] == [(2, 0), (1, 1)]


def test_a_demoted_job_goes_behind_even_a_full_queue() -> None:
    """A job that was admitted once is not lost when it is put back, and counts as one."""
    ledger = _ledger([job(1, deadline_ms=5.0), job(2, deadline_ms=50.0)], max_queue=2)

    ledger.demote(1)

    assert ledger.full
    assert ledger.depth == 2
    assert [ledger.waiting(tier) for tier in (0, 1)] == [1, 1]


def test_a_slot_is_taken_until_its_run_ends() -> None:
    """Slots are handed out lowest first, and one is idle again once its run has finished."""
    ledger = _ledger([], slots=2)
    slots = [ledger.start(number, 0.0, expected_ms=3.0) for number in (7, 8)]

    assert slots == [0, 1]
    assert ledger.idle_slots == 0
    assert ledger.finish(8, 2.5) == 2.5
    assert [run.run_id for run in ledger.running] == [7]
    assert ledger.idle_slots == 1


def test_a_full_queue_takes_nothing() -> None:
    """Beyond max_queue nothing is admitted, and the ledger stays as it was."""
    ledger = _ledger([job(1, deadline_ms=5.0), job(2, deadline_ms=6.0)], max_queue=2)

    assert ledger.full
    assert not ledger.admit(job(3, deadline_ms=1.0))
    assert ledger.depth == 2


def test_degraded_work_leaves_room_for_the_rest() -> None:
    """Degraded jobs alone cannot fill the queue."""
    ledger = _ledger([job(n, deadline_ms=5.0, tier=1) for n in range(8)], max_queue=8)

    assert ledger.depth == 6
    assert not ledger.has_room(1)
    assert ledger.has_room(0)


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e3))
def test_a_running_job_always_has_something_left(elapsed_ms: float, expected_ms: float) -> None:
    """The remaining time is what is expected, and grows again when a job overruns."""
    ledger = _ledger([], running=[(elapsed_ms, expected_ms)])

    remaining_ms = ledger.wait_ms(0.0, 0.0)

    assert remaining_ms >= expected_ms - elapsed_ms
    assert remaining_ms >= 0.09 * elapsed_ms


@given(_jobs, st.integers(1, 3), _running, st.floats(0.1, 20.0), st.floats(0.0, 1.0))
def test_spare_time_harms_nobody(
    jobs: list[Job],
    slots: int,
    running: list[tuple[float, float]],
    expected_ms: float,
    share: float,
) -> None:
    """A run prolonged by no more than the spare time makes no waiting job late that was not."""
    running = running[: slots - 1]
    ledger = _ledger(jobs, slots=slots, running=running)

    spare_ms = ledger.spare_ms(0.0, expected_ms, without=())

    likely = sorted((j for j in jobs if j.tier == 0), key=_order)
    on_time = _on_time(likely, first_ms=expected_ms, slots=slots, running=running)
    if not on_time:
        assert spare_ms == math.inf
        return
    longer_ms = expected_ms + share * spare_ms - 1e-6
    assert on_time <= _on_time(likely, first_ms=longer_ms, slots=slots, running=running)


def _on_time(
    jobs: list[Job], *, first_ms: float, slots: int, running: list[tuple[float, float]]
) -> set[int]:
    """Those of the jobs that end in time behind a run of this length."""
    first = job(-1, deadline_ms=-1.0, expected_ms=first_ms)
    return {
        waiting.id
        for place, waiting in enumerate(jobs)
        if _simulated_wait([first, *jobs[:place]], slots=slots, running=running)
        + waiting.expected_ms
        <= waiting.deadline_ms
    }


@given(_jobs, st.integers(1, 3), _running, times, st.floats(0.1, 20.0))
def test_a_newcomer_harms_exactly_those_it_would_make_late(
    jobs: list[Job],
    slots: int,
    running: list[tuple[float, float]],
    deadline_ms: float,
    least_ms: float,
) -> None:
    """The wait and the harm are those of a step-by-step simulation with and without it."""
    ledger = _ledger(jobs, slots=slots, running=running)

    wait_ms = ledger.squeezed_wait_ms(0.0, deadline_ms)
    harms = ledger.harms(0.0, deadline_ms, least_ms)

    likely = sorted((j for j in jobs if j.tier == 0), key=_order)
    place = sum(j.deadline_ms <= deadline_ms for j in likely)
    ahead, behind = likely[:place], likely[place:]
    newcomer = job(-1, deadline_ms=deadline_ms, expected_ms=least_ms)
    assert wait_ms == pytest.approx(_simulated_wait(ahead, slots=slots, running=running))
    late = [
        _lateness([*ahead, newcomer, *behind[:number]], one, slots=slots, running=running)
        for number, one in enumerate(behind)
    ]
    before = [
        _lateness([*ahead, *behind[:number]], one, slots=slots, running=running)
        for number, one in enumerate(behind)
    ]
    assume(all(abs(lateness) > 1e-6 for lateness in (*late, *before)))
    assert harms == any(was <= 0.0 < now for was, now in zip(before, late, strict=True))


def _lateness(
    ahead: list[Job], one: Job, *, slots: int, running: list[tuple[float, float]]
) -> float:
    start_ms = _simulated_wait(ahead, slots=slots, running=running)
    return start_ms + one.expected_ms - one.deadline_ms


def test_spare_time_keeps_margins_free() -> None:
    """What a waiting job needs beyond its expected time is not given away."""
    ledger = _ledger([job(1, deadline_ms=20.0, expected_ms=5.0, margin_ms=2.0)])

    assert ledger.spare_ms(0.0, 4.0, without=()) == pytest.approx(20.0 - 2.0 - 5.0 - 4.0)


def test_a_readmitted_job_expires_once_and_by_its_new_time() -> None:
    """Nothing of an earlier admission of the same job is remembered."""
    ledger = _ledger([job(1, deadline_ms=5.0)])
    ledger.remove(1)
    ledger.admit(job(1, deadline_ms=50.0))

    assert [j.id for j in ledger.ready(10.0)] == [1]
    assert ledger.ready(50.0) == []


def test_the_more_runs_are_ahead_the_more_may_go_wrong() -> None:
    """What a job keeps free for chance grows with the root of the runs that go first."""
    ahead = [job(number, deadline_ms=50.0) for number in range(8)]
    last = replace(job(9, deadline_ms=60.0), margin_ms=2.0, scatter_ms=2.0)
    alone, behind = _ledger([last]), _ledger([*ahead, last])

    spares = [ledger.spare_ms(0.0, 1.0, without=()) for ledger in (alone, behind)]

    assert spares[0] == pytest.approx(60.0 - 2.0 - 2.0)
    assert spares[1] <= 60.0 - 2.0 * 3.0 - 10.0
