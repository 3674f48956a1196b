"""The real router on devices that only take time: as much as the simulator drew for the request.

The arms are those of an arm table, with times and budgets stretched so that what sleeping and
threads add is small beside them.
"""

import asyncio
import time
from dataclasses import replace
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from loadtests.aio import precise_loop
from loadtests.asks import EXAMPLE
from loadtests.evaluate.contenders import Contender
from loadtests.evaluate.grid import times
from loadtests.evaluate.live import Shot, fire, prepare
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm, ArmView, Picture
from mnv4serve.router import planner
from mnv4serve.router.planner import Rules
from mnv4serve.router.policies import Setting
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.pool import Pool, Resident
from mnv4serve.serving.site import Assembled
from mnv4serve.simulate.hardware import MS_PER_S, Kind
from mnv4serve.simulate.scenario import Offered, Scenario, offer
from mnv4serve.simulate.truth import Truth

STRETCH = 5.0
_NUMBER_BYTES = 4
_LABELS = ("nothing",)


def stretched(kind: Kind, factor: float = STRETCH) -> Kind:
    """The same arms, slower by a factor."""
    timings = {
        arm_id: {size: times(timing, factor) for size, timing in by_batch.items()}
        for arm_id, by_batch in kind.timings.items()
    }
    return replace(kind, timings=timings)


def run(contender: Contender, asked: Scenario) -> list[Shot]:
    """One policy on one sequence of requests, in real time."""
    offered = offer(asked)
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(_run(contender, asked, offered))


async def _run(contender: Contender, asked: Scenario, offered: Offered) -> list[Shot]:
    gateway = Gateway(
        config=ServiceConfig(),
        zoo_name="stubs",
        labels=_LABELS,
        observe=lambda _: None,
        metrics_text=lambda: b"",
    )
    gateway.open(_assembled(contender, asked, Truth(asked, offered)))
    try:
        return await fire(gateway, offered, [numbered(n) for n in range(asked.requests)])
    finally:
        gateway.close()


def _assembled(contender: Contender, asked: Scenario, truth: Truth) -> Assembled:
    kind, lock = asked.cluster.devices[0], Lock()
    predictor = Predictor(timings=kind.timings, decode=kind.decode, reply_ms=kind.reply_ms)
    policy = contender.make(Setting(kind.arms, predictor, kind.slots))
    ledger = Ledger(slots=kind.slots, max_queue=asked.max_queue)
    routing = planner.Pool(kind.arms[0].device, kind.arms, predictor, ledger, policy)
    prepare(policy, routing, asked.pictures[0])
    residents = [Resident(arm, Stub(truth, kind, column)) for column, arm in enumerate(kind.arms)]
    pool = Pool(routing, residents=residents, rules=Rules(), lock=lock)
    views = tuple(
        ArmView(arm, kind.service_ms(arm.id), None, None, resident=True, on_frontier=True)
        for arm in kind.arms
    )
    return Assembled((pool,), views, decode, lock)


class Stub:
    """A backend that takes as long as was drawn for the requests, and answers nothing."""

    def __init__(self, truth: Truth, kind: Kind, column: int) -> None:
        self._truth = truth
        self._kind = kind
        self._column = column

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        del slot
        requests = [int.from_bytes(row.tobytes(), "big") for row in pixels]
        time.sleep(self._truth.service_ms(self._kind, self._column, requests) / MS_PER_S)
        return np.zeros((len(requests), len(_LABELS)), np.float32)

    def close(self) -> None:
        pass


def numbered(request: int) -> bytes:
    """A picture with the request's number behind it."""
    return _photo() + request.to_bytes(_NUMBER_BYTES, "big")


def decode(image: bytes, picture: Picture, arm: Arm) -> NDArray[np.uint8]:
    """The request's number instead of pixels."""
    del picture, arm
    return np.frombuffer(image[-_NUMBER_BYTES:], np.uint8)


@cache
def _photo() -> bytes:
    return EXAMPLE.read_bytes()
