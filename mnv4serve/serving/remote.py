"""A pool in another process as an ingress sees it: predicted, sent to, watched.

The far end queues and decides again; the ledger here mirrors what this ingress has sent, and what
others have committed is known from the last answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from secrets import randbits
from threading import Lock
from typing import Any

import numpy as np

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Picture, Reason
from mnv4serve.errors import BadImage, Draining, Expired, ServeError, Shed, code
from mnv4serve.router import planner
from mnv4serve.router.estimate import Spent
from mnv4serve.router.frontier import contenders
from mnv4serve.router.jobs import Job, Run
from mnv4serve.router.planner import learn, learn_expired
from mnv4serve.router.policies import Setting, make_policy
from mnv4serve.router.predict import Predictor
from mnv4serve.router.residency import residency_of
from mnv4serve.router.shared import SharedLedger
from mnv4serve.serving.errand import Done, Errand, Failed, Portrait, Report
from mnv4serve.serving.results import Lost, Ran
from mnv4serve.serving.slot import MS_PER_S, Decode, now_ms

logger = logging.getLogger(__name__)

REPLY_MS = 0.3
HOP_MS = 1.5
"""What reply and hop are taken to cost until they have been observed."""
SALT_BITS = 62

_ERRORS: dict[str, type[ServeError]] = {
    code(kind): kind for kind in (BadImage, Expired, Shed, Draining)
}
"""Errors of the far end that are the request's own; after any other it may go elsewhere."""


@dataclass(frozen=True, slots=True)
class Link:
    """The way to the far end; both calls raise whatever the transport raises when it is gone."""

    send: Callable[[Errand], Awaitable[Done | Failed]]
    probe: Callable[[float], Awaitable[Report]]
    """Takes the slot time in milliseconds that was refused for want of the pool since the last."""
    probe_interval_s: float
    probe_timeout_s: float


class RemotePool:
    """One pool behind one hop."""

    def __init__(
        self,
        routing: planner.Pool,
        ledger: SharedLedger,
        *,
        link: Link,
        lock: Lock,
        generation: str = "",
    ) -> None:
        self.routing = routing
        self.up = True
        self.thermometer = None  # the far end exports its own
        self._arms = {arm.id: arm for arm in routing.arms}
        self._ledger = ledger
        self._link = link
        self._generation = generation
        self._lock = lock
        self._running: set[int] = set()
        self._refused_ms = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing that was sent from here is still out."""
        return not self._running and not self._ledger.depth

    def start(self, _decode: Decode) -> None:
        """Watch the far end from now on; only on the running event loop."""
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch())

    def close(self) -> None:
        """Give up what is in flight."""
        self._watching.cancel()
        self._give_up()

    async def run(self, job: Job, image: bytes) -> Ran:
        """Send an admitted job and wait for its result.

        Raises Lost where the far end is gone or refuses, Expired once the time has run out.
        """
        with self._lock:
            if not self._ledger.admit(job):
                raise Lost("the queue is full")
            self._mirror()
        try:
            sent_ms = now_ms()
            answer = await self._answer(self._errand(job, image, sent_ms), job)
            return self._ran(job, answer, rtt_ms=now_ms() - sent_ms)
        finally:
            self._leave(job)

    def refused(self, picture: Picture) -> None:
        """A request was refused that this pool might have taken: work that it was short of."""
        predictor = self.routing.predictor
        predictor.refused()
        runs = (predictor.expect(arm, picture, wait_ms=0.0) for arm in self.routing.arms)
        self._refused_ms += min(run.slot_ms for run in runs)

    def _errand(self, job: Job, image: bytes, now: float) -> Errand:
        """The far end has what is left, less half the hop and the reply."""
        predictor = self.routing.predictor
        left_ms = job.deadline_ms - now - 0.5 * predictor.hop_ms - predictor.reply_ms
        terms = replace(job.terms, budget_ms=max(0.1, left_ms))
        return Errand(image, job.picture, terms, self._generation)

    async def _answer(self, errand: Errand, job: Job) -> Done | Failed:
        sending = asyncio.ensure_future(self._link.send(errand))
        left_s = max(0.001, (job.expire_ms - now_ms()) / MS_PER_S)
        try:
            ends: set[asyncio.Future[Any]] = {sending, self._gone}
            await asyncio.wait(ends, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                return self._heard(sending)
        finally:
            sending.cancel()
        if self._gone.done():
            raise Lost("the pool went down")
        with self._lock:
            learn_expired(self.routing, job, now_ms=now_ms())
        raise Expired(f"no answer in time for a budget of {job.terms.budget_ms:g} ms")

    def _heard(self, sending: asyncio.Future[Done | Failed]) -> Done | Failed:
        try:
            answer = sending.result()
        except Exception as error:
            logger.warning("pool_lost", extra={"device": self.routing.device}, exc_info=error)
            self._lose()
            raise Lost("the pool does not answer") from error
        with self._lock:
            self._hear(answer.report)
        return answer

    def _ran(self, job: Job, answer: Done | Failed, *, rtt_ms: float) -> Ran:
        if isinstance(answer, Failed):
            kind = _ERRORS.get(answer.code)
            raise Lost(answer.message) if kind is None else kind(answer.message)
        there = answer.stages
        arm = self._arms.get(answer.plan.arm.id, answer.plan.arm)
        reason = job.plan.reason if arm.id == job.arm.id else Reason.REBOUND
        estimate = self.routing.predictor.expect(
            arm, job.picture, wait_ms=there.wait_ms, switch_ms=answer.plan.switch_ms
        )
        plan = replace(
            answer.plan,
            arm=arm,
            reason=reason,
            predicted_ms=estimate.total_ms,
            hop_ms=estimate.hop_ms,
            reply_ms=estimate.reply_ms,
        )
        spent = Spent(there.decode_ms, there.service_ms, rtt_ms - there.wait_ms)
        with self._lock:
            learn(self.routing, Run((job,), (plan,), estimate, slot=0), spent, now_ms=now_ms())
        return Ran(
            plan=plan,
            stages=replace(there, total_ms=now_ms() - job.arrived_ms),
            logits=np.frombuffer(answer.logits, np.float32),
        )

    def _mirror(self) -> None:
        """The far end's slots as they should be busy with what was sent; the lock is held."""
        now = now_ms()
        ledger = self._ledger
        for job in ledger.ready(now)[: ledger.idle_slots]:
            ledger.remove(job.id)
            switch_ms = ledger.residency.switch_ms(job.arm.id) if ledger.residency else 0.0
            expected_ms = job.expected_ms + switch_ms
            ledger.start(job.id, now, expected_ms=expected_ms, arm_id=job.arm.id)
            self._running.add(job.id)

    def _leave(self, job: Job) -> None:
        with self._lock:
            if job.id in self._running:
                self._running.remove(job.id)
                self._ledger.finish(job.id, now_ms())
            else:
                self._ledger.remove(job.id)
            self._mirror()

    async def _watch(self) -> None:
        """Take the pool out when it does not answer, and back once it does."""
        while True:
            await asyncio.sleep(self._link.probe_interval_s)
            refused_ms, self._refused_ms = self._refused_ms, 0.0
            try:
                async with asyncio.timeout(self._link.probe_timeout_s):
                    report = await self._link.probe(refused_ms)
            except Exception:  # noqa: BLE001  # whatever the transport raises when nobody is there
                self._lose()
                continue
            with self._lock:
                self._hear(report)
                self.routing.predictor.told(report.slowdown)
            self._find()

    def _hear(self, report: Report) -> None:
        self._ledger.heard(report.replica, report.committed_ms, now_ms=now_ms())

    def _lose(self) -> None:
        if self.up:
            logger.error("pool_down", extra={"device": self.routing.device})
            self._give_up()

    def _give_up(self) -> None:
        if self.up:
            self.up = False
            self._gone.set_result(None)

    def _find(self) -> None:
        if not self.up:
            logger.warning("pool_back", extra={"device": self.routing.device})
            self._gone = asyncio.get_running_loop().create_future()
            self.up = True


def remote_pool(portrait: Portrait, link: Link, *, config: ServiceConfig, lock: Lock) -> RemotePool:
    """A pool as its portrait says, with the arms that it has loaded."""
    arms = tuple(view.arm for view in portrait.views if view.resident)
    predictor = Predictor(
        timings=portrait.timings,
        decode=portrait.decode,
        reply_ms=REPLY_MS,
        hop_ms=HOP_MS,
        far=True,
    )
    ledger = SharedLedger(
        slots=portrait.slots,
        max_queue=config.max_queue,
        residency=residency_of(portrait.switching_ms),
        salt=randbits(SALT_BITS),
    )
    policy = make_policy(config.policy, Setting(arms, predictor, portrait.slots))
    usual = () if portrait.switching_ms else contenders(arms, portrait.timings)
    routing = planner.Pool(portrait.label, arms, predictor, ledger, policy, usual)
    return RemotePool(routing, ledger, link=link, lock=lock, generation=portrait.generation)
