"""The request path on the real router, pools and decoder, with backends that do as told."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm, BackendName, OnMiss, Outcome, Reason, Terms, Transport
from mnv4serve.errors import (
    BadImage,
    BadParameter,
    Busy,
    Draining,
    Expired,
    Infeasible,
    Internal,
    NoSuchArm,
    NotReady,
    ServeError,
    TooLarge,
    UnsupportedMedia,
    leaves,
)
from mnv4serve.serving import pool
from mnv4serve.serving.refusals import OUTCOMES
from mnv4serve.serving.slot import now_ms
from tests.serving.rig import FAST, GOOD, OTHER, Rig, call, jpeg, rig


@asynccontextmanager
async def running(
    arms: dict[Arm, float] | None = None, *, config: ServiceConfig | None = None
) -> AsyncIterator[Rig]:
    made = rig(arms, config=config)
    try:
        yield made
    finally:
        for backend in made.backends.values():
            backend.gate.set()
        made.gateway.close()


async def _until_running(made: Rig) -> None:
    while not made.pool.routing.ledger.running:  # noqa: ASYNC110  # a ledger has no events
        await asyncio.sleep(0.001)


async def test_the_most_accurate_arm_answers_within_an_ample_budget() -> None:
    """The reply names the arm, its labels by probability and where the time went."""
    async with running() as made:
        reply = await made.gateway.classify(call())

    assert reply.plan.arm == GOOD
    assert reply.plan.reason is Reason.MOST_ACCURATE_ON_TIME
    assert [p.label for p in reply.predictions] == ["golf ball", "parachute", "tench"]
    assert reply.on_time
    assert reply.stages.total_ms >= reply.stages.decode_ms + reply.stages.service_ms


async def test_probabilities_are_at_the_temperature_of_the_arm() -> None:
    """Half the temperature doubles the logits; the order stays."""
    async with running({replace(GOOD, temperature=0.5): 1.0}) as made:
        reply = await made.gateway.classify(call())

    weights = np.exp(2 * np.array([5.0, 1.0, 0.0]))
    assert [p.probability for p in reply.predictions] == pytest.approx(
        weights / weights.sum(), rel=1e-5
    )


async def test_a_tight_budget_gets_the_faster_arm() -> None:
    """What the accurate arm cannot make is given to one that can."""
    async with running({FAST: 1.0, GOOD: 500.0}) as made:
        reply = await made.gateway.classify(call(terms=Terms(budget_ms=100, top_k=1)))

    assert reply.plan.arm == FAST


async def test_an_impossible_budget_is_refused_with_the_smallest_feasible_one() -> None:
    """Sending the budget that the refusal names is accepted."""
    async with running({FAST: 50.0, GOOD: 500.0}) as made:
        terms = Terms(budget_ms=5, on_miss=OnMiss.REFUSE)
        with pytest.raises(Infeasible) as caught:
            await made.gateway.classify(call(terms=terms))
        enough_ms = caught.value.smallest_feasible_budget_ms + 1

        plan = made.gateway.plan(call(terms=Terms(enough_ms, on_miss=OnMiss.REFUSE)))

    assert plan.arm == FAST
    assert made.served[0].outcome is Outcome.REFUSED
    assert made.served[0].refused_reason == "infeasible"


async def test_an_impossible_budget_is_answered_late_by_default() -> None:
    """Degrading runs the fastest arm and says that it was late."""
    async with running({FAST: 50.0, GOOD: 500.0}) as made:
        made.backends[FAST.id].delay_ms = 5
        reply = await made.gateway.classify(call(terms=Terms(budget_ms=1)))

    assert reply.plan.arm == FAST
    assert reply.plan.reason is Reason.DEGRADED
    assert not reply.on_time


async def test_a_request_that_would_wait_too_long_is_refused_as_busy() -> None:
    """Busy names when to come back and a budget that would be accepted now."""
    async with running({FAST: 200.0}) as made:
        made.backends[FAST.id].gate.clear()
        first = asyncio.create_task(made.gateway.classify(call()))
        await _until_running(made)

        with pytest.raises(Busy) as caught:
            await made.gateway.classify(call(terms=Terms(300, on_miss=OnMiss.REFUSE)))

        made.backends[FAST.id].gate.set()
        await first
    assert caught.value.retry_after_ms > 0
    assert caught.value.smallest_feasible_budget_ms > 300


async def test_a_full_queue_refuses_at_once() -> None:
    """Beyond `max_queue` nothing is admitted, whatever its budget."""
    async with running({FAST: 1.0}, config=ServiceConfig(max_queue=1)) as made:
        made.backends[FAST.id].gate.clear()
        tasks = [asyncio.create_task(made.gateway.classify(call())) for _ in range(2)]
        await _until_running(made)
        await asyncio.sleep(0)

        with pytest.raises(Busy, match="queue is full"):
            await made.gateway.classify(call())

        made.backends[FAST.id].gate.set()
        await asyncio.gather(*tasks)


async def test_a_request_past_its_late_limit_expires() -> None:
    """The caller is told as soon as the time is up, not when the slot comes back."""
    async with running({FAST: 1.0}, config=ServiceConfig(late_limit_ms=20)) as made:
        made.backends[FAST.id].gate.clear()

        with pytest.raises(Expired):
            await made.gateway.classify(call(terms=Terms(budget_ms=20)))

    assert [record.outcome for record in made.served] == [Outcome.EXPIRED]


async def test_a_refusing_request_expires_with_its_budget() -> None:
    """With on_miss=refuse nothing comes after the budget."""
    async with running({FAST: 1.0}) as made:
        made.backends[FAST.id].gate.clear()
        started = now_ms()

        with pytest.raises(Expired):
            await made.gateway.classify(call(terms=Terms(30, on_miss=OnMiss.REFUSE)))

    assert now_ms() - started < made.gateway.config.late_limit_ms


async def test_a_cancelled_request_leaves_the_queue_and_frees_its_place() -> None:
    """A caller that goes away while waiting costs no slot time."""
    async with running({FAST: 1.0}) as made:
        backend = made.backends[FAST.id]
        backend.gate.clear()
        first = asyncio.create_task(made.gateway.classify(call()))
        await _until_running(made)
        second = asyncio.create_task(made.gateway.classify(call()))
        await asyncio.sleep(0.01)

        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

        assert made.pool.routing.ledger.depth == 0
        backend.gate.set()
        await first
    assert backend.calls == 1
    assert [record.outcome for record in made.served] == [Outcome.CANCELLED]


async def test_a_request_cancelled_while_running_does_not_disturb_the_next() -> None:
    """Its result is dropped when the slot comes back, and the slot serves on."""
    async with running({FAST: 1.0}) as made:
        made.backends[FAST.id].gate.clear()
        first = asyncio.create_task(made.gateway.classify(call()))
        await _until_running(made)
        first.cancel()
        made.backends[FAST.id].gate.set()

        reply = await made.gateway.classify(call())

    assert reply.plan.arm == FAST
    assert made.backends[FAST.id].calls == 2


async def test_pins_are_hard() -> None:
    """A pinned variant or backend is used although another arm is more accurate."""
    async with running({FAST: 1.0, OTHER: 1.0, GOOD: 1.0}) as made:
        by_variant = await made.gateway.classify(call(terms=Terms(variant="small@32")))
        by_backend = await made.gateway.classify(call(terms=Terms(backend=BackendName.ONNX)))

    assert by_variant.plan.arm.variant == "small@32"
    assert by_backend.plan.arm == OTHER
    assert by_backend.plan.reason is Reason.PINNED


@pytest.mark.parametrize(
    "terms",
    [Terms(variant="huge@512"), Terms(min_accuracy=0.99), Terms(backend=BackendName.CUDA)],
)
async def test_what_no_arm_satisfies_is_refused_naming_what_there_is(terms: Terms) -> None:
    """The message lists the resident arms."""
    async with running() as made:
        with pytest.raises(NoSuchArm, match=GOOD.id):
            await made.gateway.classify(call(terms=terms))

    assert made.served[0].outcome is Outcome.INVALID


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (b"hello", UnsupportedMedia),
        (b"", ServeError),
        (jpeg()[: len(jpeg()) // 2], BadImage),
        (jpeg(1200, 900), TooLarge),
    ],
)
async def test_unreadable_pictures_are_the_callers_fault(
    image: bytes, error: type[ServeError]
) -> None:
    """Whether the header or the pixels are bad, the request is invalid and nothing breaks."""
    async with running(config=ServiceConfig(max_pixels=1_000_000)) as made:
        with pytest.raises(error):
            await made.gateway.classify(call(image))
        reply = await made.gateway.classify(call())

    assert made.served[0].outcome is Outcome.INVALID
    assert reply.on_time


async def test_a_failing_backend_is_an_internal_error_and_the_slot_lives() -> None:
    """The cause goes to the log; the caller gets the request id."""
    async with running({FAST: 1.0}) as made:
        made.backends[FAST.id].error = RuntimeError("secret")
        with pytest.raises(Internal, match="request-1") as caught:
            await made.gateway.classify(call())
        made.backends[FAST.id].error = None

        reply = await made.gateway.classify(call())

    assert "secret" not in str(caught.value)
    assert made.served[0].outcome is Outcome.ERROR
    assert reply.plan.arm == FAST


async def test_nothing_is_served_before_it_is_ready_or_after_draining() -> None:
    """Starting and stopped gateways refuse; a draining one goes on serving."""
    made = rig(opened=False)
    with pytest.raises(NotReady):
        await made.gateway.classify(call())

    async with running() as live:
        live.gateway.drain()
        await live.gateway.classify(call())
        live.gateway.refuse_new()
        with pytest.raises(Draining):
            await live.gateway.classify(call())


async def test_a_slower_device_changes_the_choice() -> None:
    """Predictions follow what really happens: an arm that has become too slow is left alone."""
    async with running({FAST: 1.0, GOOD: 8.0}) as made:
        for backend in made.backends.values():
            backend.delay_ms = 60
        terms = Terms(budget_ms=60)
        before = made.gateway.plan(call(terms=terms))
        for _ in range(30):
            await made.gateway.classify(call())

        after = made.gateway.plan(call(terms=terms))

    assert before.arm == GOOD
    assert after.arm == FAST or after.reason is Reason.DEGRADED


async def test_the_real_hand_over_decides_between_on_time_and_late() -> None:
    """Metrics use what the transport reports, not what was predicted."""
    async with running({FAST: 1.0}) as made:
        reply = await made.gateway.classify(call(terms=Terms(budget_ms=200)))

        made.gateway.replied(reply, Transport.HTTP, reply.received_ms + 100)
        made.gateway.replied(reply, Transport.HTTP, reply.received_ms + 300)

    assert [record.outcome for record in made.served] == [Outcome.ON_TIME, Outcome.LATE]


async def test_the_way_from_the_slot_to_the_caller_is_learnt() -> None:
    """Whatever the loop and the transport take after the slot's end is predicted from then on."""
    async with running({FAST: 1.0}) as made:
        for _ in range(60):
            reply = await made.gateway.classify(call(terms=Terms(budget_ms=200)))
            handed_over_ms = reply.received_ms + reply.ready_ms + 40.0
            made.gateway.replied(reply, Transport.HTTP, handed_over_ms)

        plan = made.gateway.plan(call(terms=Terms(budget_ms=200)))

    assert 0.0 < reply.ready_ms <= reply.stages.total_ms
    assert plan.reply_ms == pytest.approx(40.0, rel=0.3)


async def test_the_live_view_counts_answers_and_refusals() -> None:
    """Whoever watches sees what was answered, by which arm, and what was refused and why."""
    async with running({FAST: 1.0}) as made:
        reply = await made.gateway.classify(call(terms=Terms(budget_ms=200)))
        made.gateway.replied(reply, Transport.HTTP, reply.received_ms + 100)
        with pytest.raises(Infeasible):
            await made.gateway.classify(call(terms=Terms(budget_ms=0.001, on_miss=OnMiss.REFUSE)))

        live = made.gateway.frontier()

    assert (live.recent.requests, live.recent.on_time_share) == (2, 0.5)
    assert live.recent.arms[FAST.id].traffic_share == 1.0
    assert [one.reason for one in live.recent.refusals] == ["infeasible"]
    assert [(pool.device, pool.slots, pool.queue_depth) for pool in live.pools] == [("cpu", 1, 0)]


async def test_the_live_frontier_shows_what_a_request_would_see_now() -> None:
    """Expected latencies grow with the queue."""
    async with running({FAST: 50.0}) as made:
        idle = made.gateway.frontier().arms[0].expected_ms
        made.backends[FAST.id].gate.clear()
        task = asyncio.create_task(made.gateway.classify(call()))
        await _until_running(made)

        busy = made.gateway.frontier().arms[0].expected_ms

        made.backends[FAST.id].gate.set()
        await task
    assert idle is not None
    assert busy is not None
    assert busy > idle + 20


async def test_a_hundred_requests_at_once_are_all_answered_and_accounted_for() -> None:
    """Under a burst each request ends exactly once, with an answer or an error that is counted."""
    async with running({FAST: 1.0, GOOD: 5.0}, config=ServiceConfig(max_queue=40)) as made:
        for backend in made.backends.values():
            backend.delay_ms = 1
        results = await asyncio.gather(
            *(made.gateway.classify(call(terms=Terms(budget_ms=30))) for _ in range(100)),
            return_exceptions=True,
        )
        answers = [result for result in results if not isinstance(result, BaseException)]

        assert len(answers) + len(made.served) == 100
        assert all(isinstance(r, ServeError) for r in results if isinstance(r, BaseException))
        assert made.pool.routing.ledger.depth == 0
        assert not made.pool.routing.ledger.running


def test_every_error_has_an_outcome() -> None:
    """A new error class has to say how it is counted."""
    for error in leaves():
        assert any(kind in OUTCOMES for kind in error.__mro__), error


async def test_closing_frees_the_backends() -> None:
    """Nothing stays loaded after close."""
    async with running() as made:
        await made.gateway.classify(call())

    assert all(backend.closed for backend in made.backends.values())


async def test_a_rejection_before_the_gateway_is_counted_once() -> None:
    """Transports report what they refused themselves."""
    async with running() as made:
        made.gateway.reject(Transport.GRPC, "id", BadParameter("budget_ms must be above 0"))

    assert made.served[0].outcome is Outcome.INVALID
    assert made.served[0].transport is Transport.GRPC
    assert made.served[0].refused_reason == "bad_parameter"


async def test_closing_gives_up_what_waits() -> None:
    """Callers in the queue are told at once instead of waiting for their time to run out."""
    made = rig({FAST: 1.0})
    made.backends[FAST.id].gate.clear()
    tasks = [asyncio.create_task(made.gateway.classify(call())) for _ in range(3)]
    await _until_running(made)
    await asyncio.sleep(0.01)
    threading.Timer(0.05, made.backends[FAST.id].gate.set).start()

    made.gateway.close()

    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), timeout=2)
    assert sum(isinstance(result, Draining) for result in results) == 2
    assert made.backends[FAST.id].calls == 1


async def test_draining_before_anything_is_loaded_refuses_at_once() -> None:
    """A service that never became ready has nothing to go on serving with."""
    made = rig(opened=False)

    made.gateway.drain()

    with pytest.raises(Draining):
        await made.gateway.classify(call())


async def test_a_defect_in_learning_costs_nobody_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The answer is given first; the defect is logged, and the slot serves on."""
    async with running({FAST: 1.0}) as made:
        made.pool.routing.predictor.observe = _fails  # type: ignore[method-assign]

        replies = [await made.gateway.classify(call()) for _ in range(2)]
        await asyncio.sleep(0.05)

    assert "a defect" in caplog.text
    assert [reply.plan.arm for reply in replies] == [FAST, FAST]


async def test_a_defect_after_a_run_ends_the_request_and_not_the_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slot serves on whatever goes wrong after a run."""
    async with running({FAST: 1.0}) as made:
        monkeypatch.setattr(pool, "result_of", _fails)
        with pytest.raises(Internal):
            await made.gateway.classify(call())
        monkeypatch.undo()

        reply = await made.gateway.classify(call())

    assert reply.plan.arm == FAST


def _fails(*_: object, **__: object) -> None:
    raise RuntimeError("a defect")


async def test_asking_for_plans_teaches_nothing() -> None:
    """Refused plans do not wear down what the predictor has learnt."""
    async with running({FAST: 1.0}) as made:
        for _ in range(40):
            made.backends[FAST.id].delay_ms = 20
            await made.gateway.classify(call())
        learnt = made.pool.routing.predictor.slowdown
        terms = Terms(budget_ms=0.1, on_miss=OnMiss.REFUSE)
        for _ in range(200):
            with pytest.raises(Infeasible):
                made.gateway.plan(call(terms=terms))

    assert made.pool.routing.predictor.slowdown == learnt
