"""A pool behind a hop: sent to, predicted, lost, found again."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm, ArmView, BackendName, OnMiss, Precision, Terms, Timing
from mnv4serve.errors import ArmDown, Busy, DeviceLost, Expired
from mnv4serve.images import read_header
from mnv4serve.profiler import Profile
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.serving.errand import Done, Errand, Failed, Report
from mnv4serve.serving.generations import Generations
from mnv4serve.serving.pool_host import PoolHost
from mnv4serve.serving.remote import Link, RemotePool, remote_pool
from mnv4serve.serving.site import Assembled
from mnv4serve.serving.slot import decoder
from tests.fakes import eventually
from tests.serving.rig import PREPROCESSING, Rig, call, rig

FAR = Arm("large@64", BackendName.ONNX, Precision.FP32, "far", 64, accuracy=0.95)
NEAR = Arm("small@32", BackendName.CPU, Precision.FP32, "cpu", 32, accuracy=0.7)
DECODE = DecodeCost(0.5, 0, 0, 0, 0)


@dataclass
class Wire:
    """The way to the far end, which a test can cut, slow down and listen to."""

    host: PoolHost
    cut: bool = False
    delay_s: float = 0.0
    run: Callable[[Errand], Awaitable[Done | Failed]] | None = None
    """In place of the host's own."""
    sent: list[Errand] = field(default_factory=list)

    async def send(self, errand: Errand) -> Done | Failed:
        self.sent.append(errand)
        await self._through()
        return await (self.run or self.host.run)(errand)

    async def probe(self, refused_ms: float) -> Report:
        await self._through()
        return self.host.report(refused_ms)

    async def _through(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.cut:
            raise ConnectionError("the link is down")


@dataclass
class Pair:
    """A gateway with a pool of its own and one behind a wire."""

    near: Rig
    far: Rig
    wire: Wire
    pool: RemotePool

    def close(self) -> None:
        self.near.gateway.close()
        self.wire.host.close()


def _far(arm: Arm, service_ms: float) -> tuple[Rig, PoolHost]:
    behind = rig({arm: service_ms}, opened=False)
    behind.pool.routing = replace(behind.pool.routing, device="far")
    timings = {arm.id: {1: Timing(service_ms, service_ms * 1.05, service_ms * 1.1, 50)}}
    profile = Profile(
        "test", "2026-01-01", quick=True, slots=1, threads=1, timings=timings, decode=DECODE
    )
    view = ArmView(arm, service_ms, None, None, resident=True, on_frontier=True)
    lock = threading.Lock()
    assembled = Assembled((behind.pool,), (view,), decoder(PREPROCESSING), lock, (profile,))
    return behind, PoolHost(ServiceConfig(), assembled, zoo="test")


async def _pair(*, timeout_s: float = 0.2) -> Pair:
    near = rig({NEAR: 1.0}, opened=False)
    far, host = _far(FAR, 5.0)
    wire = Wire(host)
    link = Link(wire.send, wire.probe, probe_interval_s=0.01, probe_timeout_s=timeout_s)
    lock = threading.Lock()
    pool = remote_pool(host.portrait(), link, config=ServiceConfig(), lock=lock)
    view = ArmView(NEAR, 1.0, None, None, resident=True, on_frontier=True)
    own = Assembled((near.pool,), (view,), decoder(PREPROCESSING), lock)
    near.gateway.open(own, [pool], host.portrait().views)
    return Pair(near, far, wire, pool)


async def test_the_better_arm_answers_over_the_hop() -> None:
    """An arm behind a hop is chosen like any other where the budget allows it."""
    pair = await _pair()

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert reply.plan.arm.id == FAR.id
    assert reply.predictions[0].label == "golf ball"
    assert reply.plan.hop_ms > 0.0
    pair.close()


async def test_the_far_end_gets_what_is_left_of_the_budget() -> None:
    """The budget that travels is smaller than the caller's, by the way back at least."""
    pair = await _pair()

    await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    (errand,) = pair.wire.sent
    assert 0 < errand.terms.budget_ms < 5000
    pair.close()


async def test_weights_that_the_far_device_lacks_are_predicted_here() -> None:
    """The far end's costs of switching travel with its portrait, and count as they do there."""
    near = rig({NEAR: 1.0}, opened=False)
    _, host = _far(FAR, 5.0)
    portrait = replace(host.portrait(), switching_ms={FAR.id: 40.0})
    wire = Wire(host)
    link = Link(wire.send, wire.probe, probe_interval_s=0.01, probe_timeout_s=0.2)
    pool = remote_pool(portrait, link, config=ServiceConfig(), lock=threading.Lock())

    assert pool.routing.ledger.switch_ms(FAR.id, 1.0) == 40.0
    pool.routing.ledger.start(1, 0.0, expected_ms=45.0, arm_id=FAR.id)
    assert pool.routing.ledger.switch_ms(FAR.id, 1.0) == 0.0
    near.gateway.close()
    host.close()


async def test_every_ingress_draws_its_own_lots() -> None:
    """Two views of one pool differ in nothing else, and neither do two pools of one ingress."""
    _, host = _far(FAR, 5.0)
    wire = Wire(host)
    link = Link(wire.send, wire.probe, probe_interval_s=0.01, probe_timeout_s=0.2)
    portrait, config, lock = host.portrait(), ServiceConfig(), threading.Lock()
    views = [remote_pool(portrait, link, config=config, lock=lock) for _ in range(2)]

    lots = {view.routing.ledger.lot(1) for view in views}

    assert len(lots) == 2
    assert None not in lots
    host.close()


async def test_a_short_budget_stays_at_home() -> None:
    """A hop that would not fit is not taken."""
    pair = await _pair()
    for _ in range(60):
        pair.pool.routing.predictor._hop.follow(500.0)

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=200)))

    assert reply.plan.arm.id == NEAR.id
    pair.close()


async def test_the_hop_is_learnt() -> None:
    """What a slow way costs shows in the next prediction."""
    pair = await _pair()
    before_ms = pair.pool.routing.predictor.hop_ms
    pair.wire.delay_s = 0.05

    for _ in range(8):
        await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert pair.pool.routing.predictor.hop_ms > before_ms
    pair.close()


async def test_a_cut_link_sends_the_request_elsewhere_within_its_budget() -> None:
    """A request that is lost on the way is answered by another pool."""
    pair = await _pair()
    pair.wire.cut = True

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert reply.plan.arm.id == NEAR.id
    assert not pair.pool.up
    pair.close()


async def test_a_pool_that_is_silent_is_taken_out_and_back() -> None:
    """Unanswered probes take a pool out; answered ones take it back."""
    pair = await _pair(timeout_s=0.05)
    pair.wire.delay_s = 10.0
    await eventually(lambda: not pair.pool.up)

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))
    pair.wire.delay_s = 0.0
    await eventually(lambda: pair.pool.up)
    again = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert (reply.plan.arm.id, again.plan.arm.id) == (NEAR.id, FAR.id)
    pair.close()


async def test_probes_tell_how_slow_the_device_has_become() -> None:
    """A gateway that sends a pool nothing knows what the work of others taught it."""
    pair = await _pair()
    far = pair.far.pool.routing.predictor

    for _ in range(60):
        far.told(2.0)
    await eventually(lambda: pair.pool.routing.predictor.slowdown > 1.5)

    assert pair.pool.routing.predictor.slowdown <= far.slowdown
    pair.close()


async def test_a_pool_may_join_later() -> None:
    """A gateway that opened without it sends it work once it is there."""
    pair = await _pair()
    alone = rig({NEAR: 1.0}, opened=False)
    lock = threading.Lock()
    link = Link(pair.wire.send, pair.wire.probe, probe_interval_s=0.01, probe_timeout_s=0.2)
    view = ArmView(NEAR, 1.0, None, None, resident=True, on_frontier=True)
    alone.gateway.open(Assembled((alone.pool,), (view,), decoder(PREPROCESSING), lock))
    portrait = pair.wire.host.portrait()
    pool = remote_pool(portrait, link, config=ServiceConfig(), lock=lock)

    pool.start(decoder(PREPROCESSING))
    alone.gateway.join(pool, portrait.views)
    reply = await alone.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert reply.plan.arm.id == FAR.id
    assert {view.arm.id for view in alone.gateway.frontier().arms} == {NEAR.id, FAR.id}
    alone.gateway.close()
    pair.close()


async def test_a_pool_that_is_let_go_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Closing it, as a change of what is served does, is not told as a pool that went down."""
    pair = await _pair()

    pair.close()

    assert not pair.pool.up
    assert "pool_down" not in caplog.messages


async def test_a_pin_on_a_pool_that_is_down_is_refused() -> None:
    """A hard pin is not answered by another arm."""
    pair = await _pair()
    pair.wire.cut = True
    await eventually(lambda: not pair.pool.up)

    with pytest.raises(ArmDown):
        await pair.near.gateway.classify(call(terms=Terms(variant="large@64")))
    pair.close()


async def test_expired_work_is_not_run_at_the_far_end() -> None:
    """An errand whose budget cannot be met any more is refused there, not executed."""
    pair = await _pair()
    image = call().image
    picture = read_header(image, max_pixels=10**6)
    errand = Errand(image, picture, Terms(budget_ms=0.1, on_miss=OnMiss.REFUSE))

    answer = await pair.wire.host.run(errand)

    assert isinstance(answer, Failed)
    assert pair.far.backends[FAR.id].calls == 0
    pair.close()


async def test_an_errand_for_another_generation_goes_elsewhere() -> None:
    """A far end that serves something else by now answers nothing; the near pool does."""
    pair = await _pair()
    pair.wire.host.generation = "newer"
    hosts = Generations(pair.wire.host)
    pair.wire.run = hosts.run

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))

    assert reply.plan.arm.id == NEAR.id
    assert pair.far.backends[FAR.id].calls == 0
    pair.close()


async def test_a_request_expires_while_the_far_end_is_silent() -> None:
    """No caller waits longer than its budget and the late limit."""
    pair = await _pair(timeout_s=30)
    pair.wire.delay_s = 30.0
    terms = Terms(budget_ms=60, variant="large@64", on_miss=OnMiss.REFUSE)

    with pytest.raises((Expired, Busy)):
        await pair.near.gateway.classify(call(terms=terms))
    assert pair.pool.routing.ledger.depth == 0
    pair.close()


async def test_a_device_that_the_far_end_has_lost_is_not_counted_on() -> None:
    """Its requests are answered nearby, it stays out, and its replica asks to be replaced."""
    pair = await _pair()
    pair.far.backends[FAR.id].error = DeviceLost("onnx", "the GPU failed")

    reply = await pair.near.gateway.classify(call(terms=Terms(budget_ms=5000)))
    await asyncio.sleep(0.05)

    assert reply.plan.arm.id == NEAR.id
    assert not pair.pool.up
    with pytest.raises(ArmDown, match="the GPU failed"):
        pair.wire.host.check_health()
    pair.close()
