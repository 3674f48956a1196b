"""What both transports share: the gateway they see, request ids, keys and the hints of errors."""

import asyncio
import hmac
import itertools
import math
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Call, Plan, Reply, Transport
from mnv4serve.errors import Busy, Cancelled, Infeasible, Internal, ServeError, Unauthorized
from mnv4serve.serving.frontier import LiveView

State = Literal["starting", "ready", "draining", "stopped"]

_PROCESS = secrets.token_hex(4)
_made = itertools.count()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)


class GatewayLike(Protocol):
    """The gateway as the transports use it."""

    @property
    def config(self) -> ServiceConfig: ...
    @property
    def zoo_name(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def state(self) -> State: ...
    @property
    def not_ready_reason(self) -> str: ...

    async def classify(self, call: Call) -> Reply:
        """Raises ServeError, counted already; being cancelled frees the slot."""
        ...

    def plan(self, call: Call) -> Plan:
        """The decision without running it; raises ServeError."""
        ...

    def frontier(self) -> LiveView: ...

    def reject(self, transport: Transport, request_id: str, error: ServeError) -> None:
        """Counts a request that failed before it reached `classify`."""
        ...

    def replied(self, reply: Reply, transport: Transport, handed_over_ms: float) -> None:
        """Learns when a reply was handed to the transport; once for each."""
        ...

    @property
    def metrics_text(self) -> Callable[[], bytes] | None:
        """The metrics in Prometheus' text format; None where the engine exports them."""
        ...


def request_id(given: str, *, otherwise: str = "") -> str:
    """The caller's id where it is well-formed, else the other one or a new one."""
    if given and _REQUEST_ID.fullmatch(given):
        return given
    return otherwise or f"{_PROCESS}{next(_made):08x}"


def authorize(authorization: str | None, api_keys: Sequence[str]) -> None:
    """Raises Unauthorized unless the header carries one of the keys, compared in constant time."""
    scheme, _, token = (authorization or "").partition(" ")
    given = token.strip().encode()
    matches = [hmac.compare_digest(given, key.encode()) for key in api_keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise Unauthorized("send an API key as `Authorization: Bearer KEY`")


def hints(error: ServeError) -> dict[str, float]:
    """What would help the next attempt, by its name on the wire."""
    match error:
        case Busy():
            found = {
                "smallest_feasible_budget_ms": error.smallest_feasible_budget_ms,
                "retry_after_ms": error.retry_after_ms,
            }
        case Infeasible():
            found = {"smallest_feasible_budget_ms": error.smallest_feasible_budget_ms}
        case _:
            found = {}
    return {name: round(value, 3) for name, value in found.items() if math.isfinite(value)}


def failure(error: BaseException) -> ServeError:
    """Anything that ended a request early, as the tree names it."""
    match error:
        case ServeError():
            return error
        case asyncio.CancelledError():
            return Cancelled("the caller went away")
        case _:
            return Internal("a defect of the service; its log holds the cause under the request id")
