"""Weights that have to be brought to a device are part of what is predicted and decided."""

from dataclasses import replace
from math import inf

import pytest

from mnv4serve.domain import Arm, BackendName, OnMiss, Terms
from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.jobs import Request
from mnv4serve.router.planner import Pool, admit, learn
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.refusal import Refusal, RefusalKind
from mnv4serve.router.residency import Residency, residency_of
from mnv4serve.router.schedule import Ledger
from tests.router.builders import PHOTO, RULES, admitted, arm, predictor, request, started

SMALL = arm("small", accuracy=0.7, backend=BackendName.EDGETPU, device="edgetpu")
LARGE = arm("large", accuracy=0.9, backend=BackendName.EDGETPU, device="edgetpu")
SWITCHING_MS = {SMALL.id: 4.0, LARGE.id: 20.0}


def chip(resident: Arm | None = SMALL) -> Pool:
    """A device on which either arm takes little, and changing between them much."""
    residency = Residency(SWITCHING_MS)
    residency.resident = resident.id if resident else ""
    ledger = Ledger(slots=1, max_queue=64, residency=residency)
    predicts = predictor((SMALL, LARGE), (1.0, 3.0))
    return Pool("edgetpu", (SMALL, LARGE), predicts, ledger, Priced())


def pinned(variant: str, *, number: int, budget_ms: float = 500.0) -> Request:
    return Request(number, PHOTO, Terms(budget_ms=budget_ms, variant=variant), 0.0)


def test_only_an_arm_that_was_displaced_is_brought() -> None:
    """What is there is free; behind other work counts what that will have left there."""
    residency = Residency(SWITCHING_MS)

    assert residency.switch_ms(LARGE.id) == 20.0
    residency.resident = LARGE.id
    assert residency.switch_ms(LARGE.id) == 0.0
    assert residency.switch_ms(LARGE.id, after=SMALL.id) == 20.0
    assert residency.switch_ms("another/arm") == 0.0


def test_devices_that_hold_all_weights_keep_no_books() -> None:
    """Without a cost there is nothing to ask for in the hot path."""
    assert residency_of({}) is None
    assert residency_of({SMALL.id: 0.0}) is None
    assert residency_of(SWITCHING_MS) is not None


@pytest.mark.parametrize(("resident", "chosen"), [(SMALL, SMALL), (LARGE, LARGE)])
def test_the_better_arm_is_taken_where_its_weights_are_there(resident: Arm, chosen: Arm) -> None:
    """The budget has room for either run, not for twenty milliseconds of weights."""
    assert admitted([chip(resident)], request(10.0)).arm is chosen


def test_a_budget_with_room_for_the_weights_gets_the_better_arm() -> None:
    """Switching is a cost like any other, not a ban; the plan says what it is."""
    job = admitted([chip(SMALL)], request(60.0))

    assert job.arm is LARGE
    assert (job.plan.service_ms, job.plan.switch_ms) == (23.0, 20.0)


def test_a_start_leaves_its_weights() -> None:
    """What was started last is what the next decision finds there."""
    subject = chip(SMALL)
    subject.ledger.admit(admitted([subject], request(60.0)))

    run = started(subject, 0.0)

    assert run is not None
    assert subject.ledger.running[0].expected_ms == 23.0
    subject.ledger.finish(run.id, 23.0)
    job = admitted([subject], request(10.0, id_=2))
    assert (job.arm, job.plan.switch_ms) == (LARGE, 0.0)


def test_waiting_work_switches_back_and_forth() -> None:
    """Each waiting job is expected to find what the one before it left."""
    subject = chip(SMALL)
    subject.ledger.start(0, 0.0, expected_ms=1.0, arm_id=SMALL.id)
    for number, variant in enumerate(("large", "small", "small"), start=1):
        subject.ledger.admit(admitted([subject], pinned(variant, number=number)))

    job = admitted([subject], pinned("large", number=4))

    ahead_ms = 1.0 + (20.0 + 3.0) + (4.0 + 1.0) + 1.0
    assert job.plan.wait_ms == pytest.approx(ahead_ms)
    assert job.plan.switch_ms == 20.0
    assert job.expected_ms == 3.0
    assert subject.ledger.committed_ms(0.0) == pytest.approx(ahead_ms)


def test_the_place_in_the_queue_decides_what_is_found_there() -> None:
    """A job that goes first finds what is there now, not what later work leaves."""
    subject = chip(SMALL)
    subject.ledger.admit(admitted([subject], pinned("large", number=1, budget_ms=400.0)))

    before = admitted([subject], pinned("small", number=2, budget_ms=100.0))
    behind = admitted([subject], pinned("small", number=3, budget_ms=450.0))

    assert (before.plan.switch_ms, behind.plan.switch_ms) == (0.0, 4.0)
    assert subject.ledger.switch_ms(LARGE.id, inf) == 0.0


def test_a_degraded_job_finds_what_all_others_left() -> None:
    """It runs behind everything, so nobody's weights but theirs are there."""
    subject = chip(SMALL)
    subject.ledger.admit(admitted([subject], pinned("large", number=1)))

    late = admitted([subject], request(0.5, id_=2))

    assert (late.tier, late.arm) == (1, SMALL)
    assert (late.plan.wait_ms, late.plan.switch_ms) == (23.0, 4.0)


def switched(subject: Pool, *, times: int, service_ms: float) -> Estimate:
    """Runs of the large arm, each after the small one; what the last was expected to take."""
    for number in range(times):
        assert subject.ledger.residency is not None
        subject.ledger.residency.resident = SMALL.id
        subject.ledger.admit(admitted([subject], pinned("large", number=number)))
        run = started(subject, 0.0)
        assert run is not None
        learn(subject, run, Spent(0.0, service_ms, service_ms), now_ms=0.0)
        subject.ledger.finish(run.id, 0.0)
    assert run is not None
    return run.estimate


def test_switching_does_not_make_a_device_look_slow() -> None:
    """A run that took its usual time and the weights' own teaches that all is as profiled."""
    subject = chip(SMALL)

    switched(subject, times=50, service_ms=23.0)

    assert subject.predictor.slowdown == pytest.approx(1.0)


def test_slower_switches_are_learnt_apart_from_the_device() -> None:
    """Weights that take half as long again are expected to, and runs without them are not."""
    last = switched(chip(SMALL), times=200, service_ms=1.5 * 20.0 + 3.0)

    assert last.service_ms == pytest.approx(33.0, rel=0.05)
    assert last.settled().service_ms == pytest.approx(3.0)


def test_weights_that_are_elsewhere_make_no_budget_impossible() -> None:
    """What an idle device could do with the weights there is busy, not impossible."""
    subject = chip(LARGE)
    wanted = Request(1, PHOTO, Terms(budget_ms=3.0, variant="small"), 0.0)

    job = admit([subject], wanted, now_ms=0.0, rules=RULES)

    assert not isinstance(job, Refusal)
    assert job.tier == 1
    refusal = admit([subject], _refusing(wanted), now_ms=0.0, rules=RULES)
    assert isinstance(refusal, Refusal)
    assert refusal.kind is RefusalKind.BUSY
    assert refusal.smallest_feasible_budget_ms is not None
    enough = pinned("small", number=2, budget_ms=refusal.smallest_feasible_budget_ms)
    assert admitted([subject], enough).tier == 0


def _refusing(wanted: Request) -> Request:
    return replace(wanted, terms=replace(wanted.terms, on_miss=OnMiss.REFUSE))
