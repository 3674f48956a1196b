"""The real router on real models: the shipped zoo, as this machine serves it."""

import asyncio
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from loadtests.aio import precise_loop
from loadtests.asks import photos
from loadtests.evaluate.as_served import Work, measure
from loadtests.evaluate.contenders import OURS, Contender
from loadtests.evaluate.live import Shot, fire, prepare
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Picture
from mnv4serve.host import survey
from mnv4serve.images import read_header
from mnv4serve.metrics import Metrics
from mnv4serve.router.policies import Setting
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger
from mnv4serve.serving.assemble import REPLY_MS, assemble
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.site import Assembled
from mnv4serve.simulate.hardware import MS_PER_S, Kind, Loop
from mnv4serve.simulate.scenario import Scenario, offer

HOP_MS = 0.15
"""What the decision at dispatch and the hand-over between threads take of a slot."""
WRITE_MS = 0.02
"""Handing over a reply where there is no transport."""


@dataclass
class Site:
    """The loaded zoo; policies take turns on it, each with nothing learnt."""

    gateway: Gateway
    assembled: Assembled
    photos: tuple[bytes, ...]
    runner: asyncio.Runner

    @classmethod
    def open(cls) -> Self:
        """Load, measure where this machine has no profile, and warm up."""
        config = ServiceConfig()
        host = survey(config)
        metrics = Metrics()
        gateway = Gateway(
            config=config,
            zoo_name=host.zoo_name,
            labels=[label.name for label in host.zoo.labels],
            observe=lambda _: None,
            metrics_text=lambda: b"",
        )
        assembled = assemble(host, config, metrics=metrics)
        runner = asyncio.Runner(loop_factory=precise_loop)
        runner.run(_open(gateway, assembled))
        return cls(gateway, assembled, photos(None), runner)

    def close(self) -> None:
        self.gateway.close()
        self.runner.close()

    @cached_property
    def kind(self) -> Kind:
        """The first pool as the simulator knows a device, and as it really is when it serves."""
        pool, profile = self.assembled.pools[0], self.assembled.profiles[0]
        arms = tuple(arm for arm in pool.routing.arms if arm.accuracy is not None)
        backends = [pool.backends[arm.id] for arm in arms]
        work = Work(arms, backends, self.photos, self.pictures, self.assembled.decode)
        served = measure(work, slots=profile.slots)
        return Kind(
            name=pool.routing.device,
            arms=arms,
            timings=served.timings,
            slots=profile.slots,
            decode=profile.decode,
            hop_ms=HOP_MS,
            reply_ms=WRITE_MS,
            told={arm.id: {1: profile.timings[arm.id][1]} for arm in arms},
            decodings=served.decodings,
        )

    def loop_cost(self, asked: Scenario) -> Loop:
        """What a request takes of the event loop's thread, the generator's share in it."""
        before_s = time.thread_time()
        self.run(Contender(OURS), asked)
        request_ms = (time.thread_time() - before_s) * MS_PER_S / asked.requests
        return Loop.of(request_ms)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The photos as the simulator knows them."""
        return tuple(read_header(image, max_pixels=10**9) for image in self.photos)

    def run(self, contender: Contender, asked: Scenario) -> list[Shot]:
        """One policy on one sequence of requests, in real time."""
        self._renew(contender)
        offered = offer(asked)
        images = [self.photos[place] for place in offered.pictures.tolist()]
        return self.runner.run(fire(self.gateway, offered, images))

    def _renew(self, contender: Contender) -> None:
        """Give the idle pool a policy, and forget what the last one taught the predictor."""
        pool, profile = self.assembled.pools[0], self.assembled.profiles[0]
        predictor = Predictor(timings=profile.timings, decode=profile.decode, reply_ms=REPLY_MS)
        setting = Setting(pool.routing.arms, predictor, profile.slots)
        ledger = Ledger(slots=profile.slots, max_queue=pool.routing.ledger.max_queue)
        policy = contender.make(setting)
        pool.routing = replace(pool.routing, predictor=predictor, ledger=ledger, policy=policy)
        prepare(policy, pool.routing, self.pictures[0])


async def _open(gateway: Gateway, assembled: Assembled) -> None:
    gateway.open(assembled)
