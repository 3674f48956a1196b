"""The far end of a pool in another process: it plans again with the time that is really left."""

import itertools
import secrets
from dataclasses import replace
from math import inf
from threading import Lock

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import ArmView
from mnv4serve.errors import ArmDown, ServeError, code
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Rules, admit, arrived
from mnv4serve.serving.autoscaling import Load
from mnv4serve.serving.errand import Done, Errand, Failed, Portrait, Report
from mnv4serve.serving.refusals import error_of
from mnv4serve.serving.site import Assembled
from mnv4serve.serving.slot import now_ms


class PoolHost:
    """One pool that takes errands from any number of ingresses."""

    def __init__(
        self, config: ServiceConfig, assembled: Assembled, *, zoo: str, generation: str = ""
    ) -> None:
        self._zoo = zoo
        self.generation = generation
        (self.pool,) = assembled.pools
        (self._profile,) = assembled.profiles
        self._views: tuple[ArmView, ...] = assembled.views
        self._lock: Lock = assembled.lock
        self._rules = Rules(config.on_time_target, config.late_limit_ms)
        self._ids = itertools.count()
        self._replica = secrets.token_hex(4)
        self._worked_ms = 0.0
        self._since_ms = now_ms()
        self.pool.start(assembled.decode)

    def portrait(self) -> Portrait:
        """What the ingresses have to know to predict this pool."""
        routing = self.pool.routing
        return Portrait(
            label=routing.device,
            zoo=self._zoo,
            views=self._views,
            timings=self._profile.timings,
            decode=self._profile.decode,
            slots=routing.ledger.slots,
            max_queue=routing.ledger.max_queue,
            generation=self.generation,
            switching_ms=self._profile.switching_ms,
        )

    def report(self, refused_ms: float = 0.0) -> Report:
        """How the pool is now, told how much slot time an ingress has had to refuse for it.

        Raises ArmDown while its device does not answer, so that no ingress counts on it.
        """
        if not self.pool.up:
            raise ArmDown(self.pool.lost or "the device does not answer")
        self._worked_ms += refused_ms
        return self._state()

    def check_health(self) -> None:
        """Raises ArmDown once the device is gone for good, which takes another process to mend."""
        if self.pool.lost:
            raise ArmDown(self.pool.lost)

    async def run(self, errand: Errand) -> Done | Failed:
        """Plan, queue and execute; what cannot be on time any more is not run as if it could."""
        received_ms = now_ms()
        try:
            job = self._admit(errand, received_ms)
            ran = await self.pool.run(job, errand.image)
        except ServeError as error:
            return Failed(code(type(error)), str(error), self._state())
        self._worked_ms += ran.stages.decode_ms + ran.stages.service_ms
        stages = replace(ran.stages, total_ms=now_ms() - received_ms)
        return Done(ran.plan, stages, ran.logits.tobytes(), self._state())

    def load(self) -> Load:
        """What it was offered since the last time this was asked."""
        now = now_ms()
        ledger = self.pool.routing.ledger
        had_ms = max(1.0, now - self._since_ms) * ledger.slots
        demand, self._worked_ms, self._since_ms = self._worked_ms / had_ms, 0.0, now
        with self._lock:
            return Load(demand, ledger.wait_ms(now, inf))

    def close(self) -> None:
        """Stop the slots and free the backends."""
        self.pool.close()

    def _state(self) -> Report:
        routing = self.pool.routing
        with self._lock:
            committed_ms = routing.ledger.committed_ms(now_ms())
        return Report(self._replica, committed_ms, routing.ledger.slots, routing.predictor.slowdown)

    def _admit(self, errand: Errand, received_ms: float) -> Job:
        request = Request(next(self._ids), errand.picture, errand.terms, received_ms)
        routings = (self.pool.routing,)
        with self._lock:
            decision = admit(routings, request, now_ms=received_ms, rules=self._rules)
            arrived(routings, request, decision, now_ms=received_ms)
        if isinstance(decision, Job):
            return decision
        raise error_of(decision, errand.terms)
