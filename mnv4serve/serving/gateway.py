"""The request path, free of transports and engines.

receive -> read the picture's header -> plan -> wait in the pool's queue -> plan again -> decode
-> infer -> observe -> reply
"""

import itertools
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from threading import Lock

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import (
    Arm,
    ArmView,
    Call,
    Outcome,
    Picture,
    Plan,
    Reply,
    Served,
    Stages,
    Terms,
    Transport,
)
from mnv4serve.errors import Cancelled, Draining, Internal, NotReady, ServeError, code
from mnv4serve.images import read_header
from mnv4serve.predictions import top_k
from mnv4serve.router import planner
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Rules, admit, arrived
from mnv4serve.router.refusal import RefusalKind
from mnv4serve.serving.frontier import LiveView, live_views, pool_views
from mnv4serve.serving.refusals import error_of, outcome_of
from mnv4serve.serving.results import Lost, Ran
from mnv4serve.serving.site import Assembled, PoolLike, Site
from mnv4serve.serving.slot import now_ms
from mnv4serve.serving.traffic import Traffic
from mnv4serve.serving.wire import State

logger = logging.getLogger(__name__)


class Gateway:
    """Plans, runs and accounts for each request; the same under every engine and transport."""

    def __init__(
        self,
        *,
        config: ServiceConfig,
        zoo_name: str,
        labels: Sequence[str],
        observe: Callable[[Served], None],
        metrics_text: Callable[[], bytes] | None,
    ) -> None:
        self.config = config
        self.metrics_text = metrics_text
        self.state: State = "starting"
        self.not_ready_reason = "arms are being built, loaded and measured"
        self._observe = observe
        self._traffic = Traffic()
        self._rules = Rules(config.on_time_target, config.late_limit_ms)
        self._ids = itertools.count()
        self._site = Site(zoo_name, tuple(labels), {})
        self._lock = Lock()

    def open(
        self,
        assembled: Assembled,
        remotes: Sequence[PoolLike] = (),
        remote_views: Sequence[ArmView] = (),
        *,
        zoo: tuple[str, Sequence[str]] | None = None,
    ) -> tuple[PoolLike, ...]:
        """Take work with these pools from now on; only on the running event loop.

        `zoo` names another one with its labels than until now. Returns the pools that were used
        before: what is in flight finishes on them.
        """
        pools: tuple[PoolLike, ...] = (*assembled.pools, *remotes)
        for pool in pools:
            pool.start(assembled.decode)
        zoo_name, labels = zoo or (self.zoo_name, self.labels)
        before = self.pools
        by_device = {pool.routing.device: pool for pool in pools}
        views = (*assembled.views, *remote_views)
        self._site = Site(zoo_name, tuple(labels), by_device, views)
        self._lock = assembled.lock
        self.state = "ready"
        self.not_ready_reason = ""
        return before

    def join(self, pool: PoolLike, views: Sequence[ArmView]) -> None:
        """Take one more pool, started already and under the lock of those that were opened."""
        site = self._site
        pools = {**site.pools, pool.routing.device: pool}
        self._site = replace(site, pools=pools, views=(*site.views, *views))

    @property
    def zoo_name(self) -> str:
        return self._site.zoo_name

    @property
    def labels(self) -> tuple[str, ...]:
        return self._site.labels

    @property
    def pools(self) -> tuple[PoolLike, ...]:
        """The pools that take work; none before `open`."""
        return tuple(self._site.pools.values())

    def drain(self) -> None:
        """Go on serving, but report not ready so that callers go elsewhere."""
        self.state = "draining" if self.pools else "stopped"
        self.not_ready_reason = "the service is shutting down"

    def refuse_new(self) -> None:
        """Refuse new work; what is in flight finishes."""
        self.state = "stopped"

    def close(self) -> None:
        """Stop the pools' threads and free their backends."""
        self.state = "stopped"
        for pool in self.pools:
            pool.close()

    async def classify(self, call: Call) -> Reply:
        """Answer one request as its terms ask; raises ServeError, counted already."""
        try:
            self._check_state()
            picture = read_header(call.image, max_pixels=self.config.max_pixels)
            site = self._site
            return self._reply(call, await self._run(call, picture), site)
        except ServeError as error:
            self.reject(call.transport, call.request_id, error, terms=call.terms)
            raise
        except Exception as error:
            failure = self._internal(call, error)
            raise failure from error
        except BaseException:  # the caller is gone: cancellation has to pass through
            gone = Cancelled("the caller went away")
            self.reject(call.transport, call.request_id, gone, terms=call.terms)
            raise

    async def _run(self, call: Call, picture: Picture) -> Ran:
        """On the pool that admission chose; where that is lost, on another within the budget."""
        tried: set[str] = set()
        while True:
            job = self._admit(call, picture, learn=True, without=tried)
            try:
                return await self._site.pools[job.arm.device].run(job, call.image)
            except Lost as lost:
                tried.add(job.arm.device)
                logger.warning("replanned", extra={"device": job.arm.device, "why": str(lost)})

    def plan(self, call: Call) -> Plan:
        """The decision for a request without running it; raises ServeError."""
        self._check_state()
        picture = read_header(call.image, max_pixels=self.config.max_pixels)
        return self._admit(call, picture).plan

    def frontier(self) -> LiveView:
        """Every arm with what a typical photo would see now, the pools and the recent traffic."""
        now = now_ms()
        with self._lock:
            up = [pool for pool in self.pools if pool.up]
            arms = live_views(self._site.views, [pool.routing for pool in up], now_ms=now)
            pools = pool_views(up)
        return LiveView(arms, pools, self._traffic.recent(now_ms=now))

    def reject(
        self,
        transport: Transport,
        request_id: str,
        error: ServeError,
        *,
        terms: Terms | None = None,
    ) -> None:
        """Account for a request that ended without an answer."""
        outcome = outcome_of(error)
        reason = code(type(error))
        terms = terms or Terms(budget_ms=self.config.default_budget_ms)
        self._account(Served(request_id, transport, terms, outcome, refused_reason=reason))

    def replied(self, reply: Reply, transport: Transport, handed_over_ms: float) -> None:
        """Account for an answer, once it has been handed to the transport."""
        total_ms = handed_over_ms - reply.received_ms
        pool = self._site.pools.get(reply.plan.arm.device)
        if pool is not None:  # else it has gone since
            with self._lock:
                pool.routing.predictor.observe_reply(total_ms - reply.ready_ms)
        outcome = Outcome.ON_TIME if total_ms <= reply.terms.budget_ms else Outcome.LATE
        stages = replace(reply.stages, total_ms=total_ms)
        self._account(Served(reply.request_id, transport, reply.terms, outcome, reply.plan, stages))

    def _account(self, served: Served) -> None:
        self._traffic.observe(served, now_ms=now_ms())
        self._observe(served)

    def _check_state(self) -> None:
        if self.state == "starting":
            raise NotReady(f"not ready: {self.not_ready_reason}")
        if self.state == "stopped":
            raise Draining("the service is shutting down and takes no new work")

    def _admit(
        self,
        call: Call,
        picture: Picture,
        *,
        learn: bool = False,
        without: Collection[str] = (),
    ) -> Job:
        request = Request(next(self._ids), picture, call.terms, call.received_ms)
        with self._lock:
            now = now_ms()
            routings, down = self._routings(without)
            decision = admit(routings, request, now_ms=now, rules=self._rules, down=down)
            if learn:
                arrived(routings, request, decision, now_ms=now)
            if isinstance(decision, Job):
                return decision
            if learn and decision.kind in (RefusalKind.BUSY, RefusalKind.INFEASIBLE):
                for pool in self.pools:
                    if pool.routing in routings:
                        pool.refused(picture)
        raise error_of(decision, call.terms)

    def _routings(self, without: Collection[str]) -> tuple[list[planner.Pool], list[Arm]]:
        """The pools that take work, and the arms of those that do not."""
        routings: list[planner.Pool] = []
        down: list[Arm] = []
        for pool in self.pools:
            if pool.up and pool.routing.device not in without:
                routings.append(pool.routing)
            else:
                down.extend(pool.routing.arms)
        return routings, down

    def _reply(self, call: Call, ran: Ran, site: Site) -> Reply:
        temperature = ran.plan.arm.temperature
        predictions = top_k(ran.logits, site.labels, call.terms.top_k, temperature=temperature)
        total_ms, ready_ms = now_ms() - call.received_ms, ran.stages.total_ms
        return Reply(
            request_id=call.request_id,
            zoo=site.zoo_name,
            terms=call.terms,
            plan=ran.plan,
            stages=Stages(
                ran.stages.wait_ms, ran.stages.decode_ms, ran.stages.service_ms, total_ms
            ),
            on_time=max(total_ms, ready_ms + ran.plan.reply_ms) <= call.terms.budget_ms,
            predictions=predictions,
            received_ms=call.received_ms,
            ready_ms=ready_ms,
        )

    def _internal(self, call: Call, error: Exception) -> Internal:
        logger.error("request_failed", extra={"request_id": call.request_id}, exc_info=error)
        failure = Internal(f"internal error, logged under request id {call.request_id}")
        self.reject(call.transport, call.request_id, failure, terms=call.terms)
        return failure
