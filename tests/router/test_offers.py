from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import OnMiss, Reason
from mnv4serve.router.jobs import Job
from mnv4serve.router.planner import admit
from mnv4serve.router.refusal import Refusal, RefusalKind
from tests.router.builders import (
    ARMS,
    RULES,
    SERVICE_MS,
    admitted,
    arms_of,
    busy_pool,
    job,
    pool,
    refused,
    request,
)

_queues = st.lists(st.tuples(st.floats(1.0, 120.0), st.floats(0.2, 15.0)), max_size=12)


def test_a_queue_leads_to_a_faster_arm_and_then_to_degrading() -> None:
    """The longer the wait, the less accurate the arm, until nothing is on time any more."""
    choices = [
        admitted([busy_pool([(5.0, wait_ms)])], request(18.0)) for wait_ms in (0.1, 5.0, 9.5, 40.0)
    ]

    assert [c.arm.variant for c in choices] == ["v2", "v1", "v0", "v0"]
    assert [c.tier for c in choices] == [0, 0, 0, 1]
    assert choices[-1].plan.reason is Reason.DEGRADED
    assert choices[-1].plan.wait_ms == pytest.approx(44.0)


def test_the_pool_that_is_free_gets_the_request() -> None:
    """Of two equal arms on different devices the one whose queue is shorter is taken."""
    here = busy_pool([])
    there = pool(arms_of(*(a.accuracy or 0.0 for a in ARMS), device="cuda:0"), SERVICE_MS)

    decided = admitted([here, there], request(100.0))

    assert (decided.arm.device, decided.plan.wait_ms) == ("cuda:0", 0.0)


@given(st.floats(0.01, 1.5), st.floats(0.0, 3.0), st.integers(0, 1))
def test_the_budget_named_for_an_idle_service_is_accepted_by_one(
    budget_ms: float, spent_ms: float, busy: int
) -> None:
    """What is refused as infeasible is promised, idle, with the budget that the refusal names.

    With less it may be tried at most.
    """
    asked = request(budget_ms, on_miss=OnMiss.REFUSE)
    subject = [busy_pool([(9.0, 3.0)]) if busy else pool(ARMS, SERVICE_MS)]

    refusal = admit(subject, asked, now_ms=spent_ms, rules=RULES)

    if isinstance(refusal, Job):
        return
    if refusal.kind is RefusalKind.BUSY:
        assert isinstance(admit([pool(ARMS, SERVICE_MS)], asked, now_ms=spent_ms, rules=RULES), Job)
        return
    assert refusal.kind is RefusalKind.INFEASIBLE
    assert refusal.retry_after_ms is None
    assert refusal.smallest_feasible_budget_ms is not None
    terms = replace(asked.terms, budget_ms=refusal.smallest_feasible_budget_ms)
    idle = [pool(ARMS, SERVICE_MS)]
    assert isinstance(admit(idle, replace(asked, terms=terms), now_ms=spent_ms, rules=RULES), Job)
    less = replace(asked, terms=replace(terms, budget_ms=terms.budget_ms - 0.2))
    tried = admit(idle, less, now_ms=spent_ms, rules=RULES)
    assert isinstance(tried, Refusal) or tried.plan.reason is Reason.DEGRADED


@given(_queues, st.integers(1, 3), st.floats(1.8, 60.0), st.floats(0.0, 0.3))
def test_the_budget_named_for_right_now_is_accepted_right_now(
    queue: list[tuple[float, float]], slots: int, budget_ms: float, spent_ms: float
) -> None:
    """What is refused as busy is accepted at the same moment with the budget it names."""
    asked = request(budget_ms, on_miss=OnMiss.REFUSE)
    subject = [busy_pool(queue, slots=slots)]

    refusal = admit(subject, asked, now_ms=spent_ms, rules=RULES)

    if isinstance(refusal, Job):
        return
    assert refusal.kind is RefusalKind.BUSY
    assert refusal.retry_after_ms is not None
    assert refusal.retry_after_ms >= 1.0
    assert refusal.smallest_feasible_budget_ms is not None
    terms = replace(asked.terms, budget_ms=refusal.smallest_feasible_budget_ms)
    accepted = admit(subject, replace(asked, terms=terms), now_ms=spent_ms, rules=RULES)
    assert isinstance(accepted, Job)
    assert accepted.tier == 0


def test_a_hint_survives_a_staircase_of_deadlines() -> None:
    """Even where each larger budget lets yet more work go first, the named one is accepted."""
    staircase = [(5.7 + 5.0 * step, 4.5) for step in range(12)]
    asked = request(5.6, on_miss=OnMiss.REFUSE)
    subject = [busy_pool(staircase)]

    refusal = refused(subject, asked)

    assert refusal.smallest_feasible_budget_ms is not None
    terms = replace(asked.terms, budget_ms=refusal.smallest_feasible_budget_ms)
    assert isinstance(admit(subject, replace(asked, terms=terms), now_ms=0.0, rules=RULES), Job)


def test_a_retry_after_the_hint_is_accepted() -> None:
    """When the work that was in the way has been done, the same budget is accepted."""
    subject = busy_pool([])
    asked = request(4.0, on_miss=OnMiss.REFUSE)
    refusal = refused([subject], asked)
    assert refusal.retry_after_ms is not None

    again = replace(asked, received_ms=refusal.retry_after_ms)

    assert isinstance(admit([subject], again, now_ms=again.received_ms, rules=RULES), Job)


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_a_full_queue_refuses(on_miss: OnMiss) -> None:
    """In either mode a request finds no place in a full queue."""
    subject = pool(ARMS, SERVICE_MS, max_queue=1)
    subject.ledger.start(8, 0.0, expected_ms=5.0)
    subject.ledger.admit(job(9, deadline_ms=50.0))

    refusal = refused([subject], request(100.0, on_miss=on_miss))

    assert refusal.kind is RefusalKind.QUEUE_FULL
    assert refusal.retry_after_ms == 5.0
