"""The far end of a pool in another process: it plans again with the time that is really left."""

import itertools
from dataclasses import replace
from threading import Lock

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import ArmView
from mnv4serve.errors import ServeError, code
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Rules, admit, arrived
from mnv4serve.serving.errand import Done, Errand, Failed, Portrait, Report
from mnv4serve.serving.gateway import Assembled
from mnv4serve.serving.refusals import error_of
from mnv4serve.serving.slot import now_ms


class PoolHost:
    """One pool that takes errands from any number of ingresses."""

    def __init__(self, config: ServiceConfig, assembled: Assembled) -> None:
        (self.pool,) = assembled.pools
        (self._profile,) = assembled.profiles
        self._views: tuple[ArmView, ...] = assembled.views
        self._lock: Lock = assembled.lock
        self._rules = Rules(config.on_time_target, config.late_limit_ms)
        self._ids = itertools.count()
        self.pool.start(assembled.decode)

    def portrait(self) -> Portrait:
        """What the ingresses have to know to predict this pool."""
        routing = self.pool.routing
        return Portrait(
            label=routing.device,
            views=self._views,
            timings=self._profile.timings,
            decode=self._profile.decode,
            slots=routing.ledger.slots,
            max_queue=routing.ledger.max_queue,
        )

    def report(self) -> Report:
        """How the pool is now."""
        routing = self.pool.routing
        with self._lock:
            committed_ms = routing.ledger.committed_ms(now_ms())
        return Report(committed_ms, routing.ledger.slots, routing.predictor.slowdown)

    async def run(self, errand: Errand) -> Done | Failed:
        """Plan, queue and execute; what cannot be on time any more is not run as if it could."""
        received_ms = now_ms()
        try:
            job = self._admit(errand, received_ms)
            ran = await self.pool.run(job, errand.image)
        except ServeError as error:
            return Failed(code(type(error)), str(error), self.report())
        stages = replace(ran.stages, total_ms=now_ms() - received_ms)
        return Done(ran.plan, stages, ran.logits.tobytes(), self.report())

    def close(self) -> None:
        """Stop the slots and free the backends."""
        self.pool.close()

    def _admit(self, errand: Errand, received_ms: float) -> Job:
        request = Request(next(self._ids), errand.picture, errand.terms, received_ms)
        routings = (self.pool.routing,)
        with self._lock:
            decision = admit(routings, request, now_ms=received_ms, rules=self._rules)
            arrived(routings, request, decision, now_ms=received_ms)
        if isinstance(decision, Job):
            return decision
        raise error_of(decision, errand.terms)
