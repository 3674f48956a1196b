"""What is served changes under load, and no request is lost or answered with the wrong labels."""

import asyncio
from pathlib import Path
from threading import Lock

import pytest

from mnv4serve.config import ServiceConfig
from mnv4serve.errors import BadConfig
from mnv4serve.serving.generations import changed, generation_of, retire
from mnv4serve.serving.site import Assembled
from mnv4serve.serving.slot import decoder
from tests.serving.rig import PREPROCESSING, Rig, call, rig


def _assembled(source: Rig) -> Assembled:
    return Assembled((source.pool,), (), decoder(PREPROCESSING), Lock())


async def test_a_request_in_flight_keeps_its_zoo() -> None:
    """Begun before the switch, answered after it, with the labels that it was asked of."""
    old, new = rig(), rig(opened=False)
    for backend in old.backends.values():
        backend.gate.clear()
    asking = asyncio.create_task(old.gateway.classify(call()))
    await asyncio.sleep(0.05)

    before = old.gateway.open(_assembled(new), zoo=("animals", ("cat", "dog", "cow")))
    after = await old.gateway.classify(call())
    for backend in old.backends.values():
        backend.gate.set()
    first = await asking

    assert (first.zoo, first.predictions[0].label) == ("test", "golf ball")
    assert (after.zoo, after.predictions[0].label) == ("animals", "dog")
    await retire(before, grace_s=0.0)
    assert all(backend.closed for backend in old.backends.values())
    old.gateway.close()


async def test_nothing_is_closed_while_it_works() -> None:
    """Retiring waits for what is in flight."""
    old, new = rig(), rig(opened=False)
    for backend in old.backends.values():
        backend.gate.clear()
    asking = asyncio.create_task(old.gateway.classify(call()))
    await asyncio.sleep(0.05)

    retiring = asyncio.create_task(retire(old.gateway.open(_assembled(new)), grace_s=0.0))
    await asyncio.sleep(0.1)
    closed_early = any(backend.closed for backend in old.backends.values())
    for backend in old.backends.values():
        backend.gate.set()
    await asking
    await retiring

    assert not closed_early
    old.gateway.close()


async def test_no_request_is_lost_while_switching() -> None:
    """A steady load over several switches is answered whole."""
    first = rig(slots=2)
    stop = asyncio.Event()

    async def caller() -> int:
        answered = 0
        while not stop.is_set():
            await first.gateway.classify(call())
            answered += 1
        return answered

    callers = [asyncio.create_task(caller()) for _ in range(4)]
    retiring = []
    for _ in range(5):
        await asyncio.sleep(0.02)
        before = first.gateway.open(_assembled(rig(slots=2, opened=False)))
        retiring.append(asyncio.create_task(retire(before, grace_s=0.0)))
    stop.set()

    assert min(await asyncio.gather(*callers)) > 0
    await asyncio.gather(*retiring)
    first.gateway.close()


def test_only_what_can_be_changed_is() -> None:
    """A key that needs a restart is named."""
    with pytest.raises(BadConfig, match="port"):
        changed(ServiceConfig(), {"port": 1})


def test_changes_are_validated() -> None:
    """A wrong value is refused before anything is loaded."""
    with pytest.raises(BadConfig, match="user_config"):
        changed(ServiceConfig(), {"max_arms": 0})


def test_changes_take_effect() -> None:
    """Zoo and folder may change; everything else stays."""
    config = changed(ServiceConfig(max_queue=7), {"zoo": "mine", "models": "/m"})

    assert (config.zoo, config.models, config.max_queue) == ("mine", Path("/m"), 7)


def test_a_generation_has_one_name_everywhere() -> None:
    """The order of keys does not matter."""
    one, other = {"zoo": "a", "models": "b"}, {"models": "b", "zoo": "a"}

    assert generation_of(one) == generation_of(other) != generation_of({"zoo": "a"})
