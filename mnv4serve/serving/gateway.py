"""The request path, free of transports and engines.

receive -> read the picture's header -> plan -> wait in the pool's queue -> plan again -> decode
-> infer -> observe -> reply
"""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import (
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
from mnv4serve.errors import (
    ArmDown,
    BadRequest,
    Busy,
    Cancelled,
    Draining,
    Expired,
    Infeasible,
    Internal,
    NoSuchArm,
    NotReady,
    ServeError,
    Shed,
    SlowBody,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
    code,
)
from mnv4serve.images import read_header, top_k
from mnv4serve.router import planner
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Rules, admit, arrived
from mnv4serve.router.refusal import Refusal, RefusalKind
from mnv4serve.serving.frontier import LiveView, live_views, pool_views
from mnv4serve.serving.pool import Pool, Ran
from mnv4serve.serving.slot import Decode, now_ms
from mnv4serve.serving.traffic import Traffic
from mnv4serve.serving.wire import State

logger = logging.getLogger(__name__)

OUTCOMES: Mapping[type[ServeError], Outcome] = {
    BadRequest: Outcome.INVALID,
    Unauthorized: Outcome.INVALID,
    SlowBody: Outcome.INVALID,
    TooLarge: Outcome.INVALID,
    UnsupportedMedia: Outcome.INVALID,
    Infeasible: Outcome.REFUSED,
    Busy: Outcome.REFUSED,
    NotReady: Outcome.REFUSED,
    Draining: Outcome.REFUSED,
    ArmDown: Outcome.REFUSED,
    Shed: Outcome.SHED,
    Expired: Outcome.EXPIRED,
    Cancelled: Outcome.CANCELLED,
    Internal: Outcome.ERROR,
}


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a gateway needs to take work."""

    pools: tuple[Pool, ...]
    views: tuple[ArmView, ...]
    """Every profiled arm, resident or not."""
    decode: Decode
    lock: Lock
    """The one that the pools share: it guards all that the router decides from."""


class Gateway:
    """Plans, runs and accounts for each request; the same under every engine and transport."""

    def __init__(
        self,
        *,
        config: ServiceConfig,
        zoo_name: str,
        labels: Sequence[str],
        observe: Callable[[Served], None],
        metrics_text: Callable[[], bytes],
    ) -> None:
        self.config = config
        self.zoo_name = zoo_name
        self.labels = tuple(labels)
        self.metrics_text = metrics_text
        self.state: State = "starting"
        self.not_ready_reason = "arms are being built, loaded and measured"
        self._observe = observe
        self._traffic = Traffic()
        self._rules = Rules(config.on_time_target, config.late_limit_ms)
        self._ids = itertools.count()
        self._pools: Mapping[str, Pool] = {}
        self._views: tuple[ArmView, ...] = ()
        self._routings: tuple[planner.Pool, ...] = ()
        self._lock = Lock()

    def open(self, assembled: Assembled) -> None:
        """Take work from now on; only on the running event loop."""
        for pool in assembled.pools:
            pool.start(assembled.decode)
        self._pools = {pool.routing.device: pool for pool in assembled.pools}
        self._routings = tuple(pool.routing for pool in assembled.pools)
        self._views = assembled.views
        self._lock = assembled.lock
        self.state = "ready"
        self.not_ready_reason = ""

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools that take work; none before `open`."""
        return tuple(self._pools.values())

    def drain(self) -> None:
        """Go on serving, but report not ready so that callers go elsewhere."""
        self.state = "draining" if self._pools else "stopped"
        self.not_ready_reason = "the service is shutting down"

    def refuse_new(self) -> None:
        """Refuse new work; what is in flight finishes."""
        self.state = "stopped"

    def close(self) -> None:
        """Stop the pools' threads and free their backends."""
        self.state = "stopped"
        for pool in self._pools.values():
            pool.close()

    async def classify(self, call: Call) -> Reply:
        """Answer one request as its terms ask; raises ServeError, counted already."""
        try:
            self._check_state()
            picture = read_header(call.image, max_pixels=self.config.max_pixels)
            job = self._admit(call, picture, learn=True)
            ran = await self._pools[job.arm.device].run(job, call.image)
            return self._reply(call, ran)
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

    def plan(self, call: Call) -> Plan:
        """The decision for a request without running it; raises ServeError."""
        self._check_state()
        picture = read_header(call.image, max_pixels=self.config.max_pixels)
        return self._admit(call, picture).plan

    def frontier(self) -> LiveView:
        """Every arm with what a typical photo would see now, the pools and the recent traffic."""
        now = now_ms()
        with self._lock:
            arms = live_views(self._views, self._routings, now_ms=now)
            pools = pool_views(self._routings)
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
        outcome = next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)
        reason = code(type(error))
        terms = terms or Terms(budget_ms=self.config.default_budget_ms)
        self._account(Served(request_id, transport, terms, outcome, refused_reason=reason))

    def replied(self, reply: Reply, transport: Transport, handed_over_ms: float) -> None:
        """Account for an answer, once it has been handed to the transport."""
        total_ms = handed_over_ms - reply.received_ms
        predictor = self._pools[reply.plan.arm.device].routing.predictor
        with self._lock:
            predictor.observe_reply(total_ms - reply.stages.total_ms)
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

    def _admit(self, call: Call, picture: Picture, *, learn: bool = False) -> Job:
        request = Request(next(self._ids), picture, call.terms, call.received_ms)
        with self._lock:
            now = now_ms()
            decision = admit(self._routings, request, now_ms=now, rules=self._rules)
            if learn:
                arrived(self._routings, request, decision, now_ms=now)
            if isinstance(decision, Job):
                return decision
            if learn and decision.kind in (RefusalKind.BUSY, RefusalKind.INFEASIBLE):
                for routing in self._routings:
                    routing.predictor.refused()
        raise _error_of(decision, call.terms)

    def _reply(self, call: Call, ran: Ran) -> Reply:
        temperature = ran.plan.arm.temperature
        predictions = top_k(ran.logits, self.labels, call.terms.top_k, temperature=temperature)
        total_ms = now_ms() - call.received_ms
        return Reply(
            request_id=call.request_id,
            zoo=self.zoo_name,
            terms=call.terms,
            plan=ran.plan,
            stages=Stages(
                ran.stages.wait_ms, ran.stages.decode_ms, ran.stages.service_ms, total_ms
            ),
            on_time=total_ms + ran.plan.reply_ms <= call.terms.budget_ms,
            predictions=predictions,
            received_ms=call.received_ms,
        )

    def _internal(self, call: Call, error: Exception) -> Internal:
        logger.error("request_failed", extra={"request_id": call.request_id}, exc_info=error)
        failure = Internal(f"internal error, logged under request id {call.request_id}")
        self.reject(call.transport, call.request_id, failure, terms=call.terms)
        return failure


def _error_of(refusal: Refusal, terms: Terms) -> ServeError:
    match refusal.kind:
        case RefusalKind.INFEASIBLE:
            smallest_ms = refusal.smallest_feasible_budget_ms or 0.0
            message = f"no eligible arm answers within {terms.budget_ms:g} ms even when idle"
            return Infeasible(message, smallest_feasible_budget_ms=smallest_ms)
        case RefusalKind.BUSY | RefusalKind.QUEUE_FULL:
            full = refusal.kind is RefusalKind.QUEUE_FULL
            cause = "the queue is full" if full else "too much work is ahead of it"
            return Busy(
                f"{terms.budget_ms:g} ms cannot be met now: {cause}",
                smallest_feasible_budget_ms=refusal.smallest_feasible_budget_ms or 0.0,
                retry_after_ms=refusal.retry_after_ms or 0.0,
            )
        case RefusalKind.ARM_DOWN:
            return ArmDown("the arm that was asked for is down at the moment")
        case RefusalKind.NO_SUCH_ARM:
            return NoSuchArm(_what_there_is(refusal, terms))


def _what_there_is(refusal: Refusal, terms: Terms) -> str:
    asked = {
        "variant": terms.variant,
        "backend": terms.backend,
        "min_accuracy": terms.min_accuracy,
    }
    wanted = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    arms = ", ".join(
        arm.id if arm.accuracy is None else f"{arm.id} ({arm.accuracy:.3f})"
        for arm in refusal.available
    )
    return f"no resident arm has {wanted}; there are {arms}"
