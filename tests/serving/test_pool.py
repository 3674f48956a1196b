"""Batches, devices that hang and work that is given up, on real threads and a real loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from typing_extensions import override

from mnv4serve.domain import Arm, Call, OnMiss, Outcome, Reply, Served, Terms
from mnv4serve.errors import ArmDown, BackendUnavailable, BadImage, DeviceLost, Internal, Shed
from mnv4serve.router.jobs import Job
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policy import Order, Policy, View
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.pool import Pool
from tests.fakes import eventually
from tests.serving.rig import (
    FAST,
    GOOD,
    FakeBackend,
    call,
    jpeg,
    make_gateway,
    make_pool,
)

STUCK_MS = 40.0
ELSEWHERE = replace(FAST, device="cuda:0", id="")
AMPLE = Terms(budget_ms=10_000.0, top_k=1)


@dataclass
class _Stand:
    """A gateway over pools, and what they run on."""

    gateway: Gateway
    pools: list[Pool]
    backends: dict[str, FakeBackend]
    served: list[Served]


@asynccontextmanager
async def _stand(
    *pools: Mapping[Arm, Mapping[int, float]],
    slots: int = 1,
    policy: Policy | None = None,
    stuck_ms: float = STUCK_MS,
) -> AsyncIterator[_Stand]:
    lock = threading.Lock()
    made = [
        make_pool(arms, lock=lock, slots=slots, policy=policy, stuck_ms=stuck_ms) for arms in pools
    ]
    backends = {name: backend for _, owned in made for name, backend in owned.items()}
    served: list[Served] = []
    gateway = make_gateway([pool for pool, _ in made], served, lock=lock)
    try:
        yield _Stand(gateway, [pool for pool, _ in made], backends, served)
    finally:
        for backend in backends.values():
            backend.gate.set()
        gateway.close()


async def test_a_device_that_hangs_is_taken_out_and_back_when_it_answers() -> None:
    """Its requests and those that pin it are told that it is down, until it answers again."""
    async with _stand({FAST: {1: 1.0}}) as made:
        made.backends[FAST.id].gate.clear()
        with pytest.raises(ArmDown):
            await made.gateway.classify(call(terms=AMPLE))
        assert not made.pools[0].up
        with pytest.raises(ArmDown):
            await made.gateway.classify(call(terms=AMPLE))

        made.backends[FAST.id].gate.set()
        await eventually(lambda: made.pools[0].up)
        reply = await made.gateway.classify(call(terms=AMPLE))

    assert reply.plan.arm == FAST
    outcomes = [one.outcome for one in made.served]
    assert outcomes == [Outcome.REFUSED, Outcome.REFUSED]


async def test_what_a_device_that_hangs_held_is_answered_by_another() -> None:
    """Requests on it and behind it are planned again on the pools that are left."""
    async with _stand({FAST: {1: 1.0}}, {ELSEWHERE: {1: 30.0}}) as made:
        made.backends[FAST.id].gate.clear()

        replies = await asyncio.gather(
            *(made.gateway.classify(call(terms=AMPLE)) for _ in range(3))
        )

        assert not made.pools[0].up
        assert {reply.plan.arm for reply in replies} == {ELSEWHERE}
        assert made.pools[0].idle


async def test_one_slot_that_hangs_does_not_take_the_others_with_it() -> None:
    """While a slot still answers the device is up, and the pool works on with what it has."""
    async with _stand({FAST: {1: 1.0}, GOOD: {1: 2.0}}, slots=2) as made:
        made.backends[GOOD.id].gate.clear()
        with pytest.raises(ArmDown):
            await made.gateway.classify(call(terms=replace(AMPLE, variant=GOOD.variant)))

        reply = await made.gateway.classify(call(terms=replace(AMPLE, variant=FAST.variant)))

        assert made.pools[0].up
        assert reply.plan.arm == FAST


@pytest.mark.parametrize("slots", [1, 2])
async def test_a_device_that_is_lost_is_left_for_good(slots: int) -> None:
    """What it held and what waited for it is answered by another; nothing is run on it again."""
    async with _stand({FAST: {1: 1.0}}, {ELSEWHERE: {1: 30.0}}, slots=slots) as made:
        backend = made.backends[FAST.id]
        backend.error = DeviceLost("cuda", "the GPU failed: start the service again")
        backend.gate.clear()
        waiting = [asyncio.create_task(made.gateway.classify(call(terms=AMPLE))) for _ in range(4)]
        await eventually(lambda: backend.calls == slots)
        backend.gate.set()

        replies = await asyncio.gather(*waiting)

        assert {reply.plan.arm for reply in replies} == {ELSEWHERE}
        assert not made.pools[0].up
        assert "start the service again" in made.pools[0].lost
        assert backend.calls == slots


async def test_a_device_that_is_unplugged_costs_no_answer() -> None:
    """Another answers meanwhile; plugged in again, it answers itself."""
    async with _stand({FAST: {1: 1.0}}, {ELSEWHERE: {1: 30.0}}) as made:
        backend = made.backends[FAST.id]
        backend.error = BackendUnavailable("edgetpu", "no Edge TPU is attached")

        unplugged = await made.gateway.classify(call(terms=AMPLE))
        backend.error = None
        replugged = await made.gateway.classify(call(terms=AMPLE))

        assert unplugged.plan.arm == ELSEWHERE
        assert replugged.plan.arm == FAST
        assert made.pools[0].up


class _Together(Priced):
    """Runs all that waits as one batch, and gives up requests with a budget of `hopeless_ms`."""

    hopeless_ms = 7_777.0

    @override
    def order(self, jobs: Sequence[Job], view: View) -> Order:
        shed = tuple(job for job in jobs if job.terms.budget_ms == self.hopeless_ms)
        members = tuple(job for job in jobs if job not in shed)
        return Order(view.arms[0] if members else None, members, shed)


async def _behind(made: _Stand, *calls: Call) -> list[Reply | BaseException]:
    """How these end that waited for a run together."""
    backend, ledger = made.backends[FAST.id], made.pools[0].routing.ledger
    backend.gate.clear()
    first = asyncio.create_task(made.gateway.classify(call(terms=AMPLE)))
    await eventually(lambda: backend.calls == 1)
    rest = [asyncio.create_task(made.gateway.classify(one)) for one in calls]
    await eventually(lambda: ledger.depth == len(rest))
    backend.gate.set()
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


async def test_a_batch_is_one_inference_with_a_result_for_each() -> None:
    """Members of a run are decoded one by one, inferred together and answered each."""
    async with _stand({FAST: {1: 1.0}}, policy=_Together(), stuck_ms=1e6) as made:
        outcomes = await _behind(made, *(call(jpeg(width), AMPLE) for width in (80, 96, 120)))

        assert made.backends[FAST.id].calls == 2
        assert made.pools[0].idle
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
    assert [reply.predictions[0].label for reply in replies] == ["golf ball"] * 3
    assert len({reply.stages.service_ms for reply in replies}) == 1
    assert len({reply.stages.wait_ms for reply in replies}) == 3


async def test_an_unreadable_member_of_a_batch_fails_alone() -> None:
    """The others of its run are answered."""
    async with _stand({FAST: {1: 1.0}}, policy=_Together(), stuck_ms=1e6) as made:
        broken = jpeg()[:400]

        good, bad, other = await _behind(
            made, call(terms=AMPLE), call(broken, AMPLE), call(terms=AMPLE)
        )

    assert isinstance(bad, BadImage)
    assert isinstance(good, Reply)
    assert isinstance(other, Reply)


async def test_a_batch_whose_inference_fails_ends_all_its_members() -> None:
    """Each caller is told, and the slot takes the next run."""
    async with _stand({FAST: {1: 1.0}}, policy=_Together(), stuck_ms=1e6) as made:
        backend = made.backends[FAST.id]
        first = asyncio.create_task(_behind(made, call(terms=AMPLE), call(terms=AMPLE)))
        await eventually(lambda: backend.calls == 1)
        await first
        backend.error = RuntimeError("device lost")
        failed = await asyncio.gather(
            *(made.gateway.classify(call(terms=AMPLE)) for _ in range(2)), return_exceptions=True
        )
        backend.error = None

        reply = await made.gateway.classify(call(terms=AMPLE))

    assert all(isinstance(one, Internal) for one in failed)
    assert reply.plan.arm == FAST


async def test_what_a_policy_gives_up_is_shed() -> None:
    """A caller that takes no late answer is told so at once, and counted as such."""
    refusing = Terms(budget_ms=_Together.hopeless_ms, on_miss=OnMiss.REFUSE)
    async with _stand({FAST: {1: 1.0}}, policy=_Together(), stuck_ms=1e6) as made:
        shed, answered = await _behind(made, call(terms=refusing), call(terms=AMPLE))

    assert isinstance(shed, Shed)
    assert isinstance(answered, Reply)
    assert Outcome.SHED in [one.outcome for one in made.served]
