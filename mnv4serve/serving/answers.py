"""What HTTP answers with: JSON, pages and RFC 9457 problem details, sent over bare ASGI."""

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson

from mnv4serve.errors import (
    ArmDown,
    BadImage,
    BadParameter,
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
)
from mnv4serve.serving.documents import Document, problem_document

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

CLIENT_CLOSED_REQUEST = 499
"""Read by nobody but a proxy's log; the number that nginx made customary."""

STATUS: Mapping[type[ServeError], int] = {
    BadParameter: 400,
    BadImage: 400,
    NoSuchArm: 400,
    Unauthorized: 401,
    SlowBody: 408,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Infeasible: 422,
    Busy: 429,
    NotReady: 503,
    Draining: 503,
    Shed: 503,
    ArmDown: 503,
    Expired: 504,
    Cancelled: CLIENT_CLOSED_REQUEST,
    Internal: 500,
}

JSON = b"application/json"
PROBLEM = b"application/problem+json"
BLANK = "about:blank"
"""Type of a problem that its status tells whole."""
_CLOSE = (b"connection", b"close")


@dataclass(slots=True)
class Answer:
    """One response, complete before its first byte is sent."""

    status: int
    body: bytes
    media: bytes = JSON
    headers: Headers = ()
    sent: Callable[[], None] | None = None
    """Called soon after the transport has taken the last byte."""

    async def send(self, send: Send, *, request_id: str, closing: bool) -> None:
        headers = [
            (b"content-type", self.media),
            (b"content-length", str(len(self.body)).encode()),
            (b"x-request-id", request_id.encode()),
            *self.headers,
        ]
        if closing and _CLOSE not in headers:
            headers.append(_CLOSE)
        start = {"type": "http.response.start", "status": self.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": self.body})


def document(content: Document) -> Answer:
    return Answer(200, orjson.dumps(content))


def problem(error: ServeError, *, instance: str, request_id: str) -> Answer:
    """A failed request as problem details, with the headers that its status asks for."""
    status = STATUS[type(error)]
    content = problem_document(error, status=status, instance=instance, request_id=request_id)
    return Answer(status, orjson.dumps(content), PROBLEM, _headers(error))


def plain_problem(
    status: HTTPStatus, detail: str, *, instance: str, request_id: str, headers: Headers = ()
) -> Answer:
    """A problem of HTTP itself, which needs no type of ours."""
    content = {
        "type": BLANK,
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": quote(instance),
        "request_id": request_id,
    }
    return Answer(status.value, orjson.dumps(content), PROBLEM, headers)


def _headers(error: ServeError) -> Headers:
    match error:
        case Busy() if math.isfinite(error.retry_after_ms):
            seconds = max(1, math.ceil(error.retry_after_ms / 1000.0))
            return ((b"retry-after", str(seconds).encode()),)
        case Unauthorized():
            return ((b"www-authenticate", b"Bearer"),)
        case SlowBody():
            return (_CLOSE,)  # what is still to come of the body belongs to no request
        case _:
            return ()
