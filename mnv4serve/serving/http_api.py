"""HTTP: requests become calls, replies and errors become JSON.

A bare ASGI application, because a framework's request object and middleware would cost more than
the rest of the way. What a request may hold is read in `bodies` and `terms`, what comes back is
written in `answers` and `documents`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson

from mnv4serve.domain import Call, Reply, Transport
from mnv4serve.errors import (
    Draining,
    NotReady,
    ServeError,
    UnsupportedMedia,
    code,
    leaves,
)
from mnv4serve.serving.answers import (
    STATUS,
    Answer,
    Headers,
    Send,
    document,
    plain_problem,
    problem,
)
from mnv4serve.serving.bodies import Receive, media_type, picture_in, read_body
from mnv4serve.serving.documents import (
    frontier_document,
    plan_document,
    readiness_document,
    reply_document,
)
from mnv4serve.serving.gone import WATCHING, CancelledWhenGone, Watching
from mnv4serve.serving.openapi import docs_page, openapi_document
from mnv4serve.serving.slot import now_ms
from mnv4serve.serving.terms import terms_from_query
from mnv4serve.serving.wire import GatewayLike, authorize, failure, request_id

__all__ = ["STATUS", "make_app"]

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[["Request"], Coroutine[Any, Any, Answer]]

HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
PROBLEMS = "/problems/"
ELSEWHERE = (
    "metrics of the ray engine are exported by each node: scrape the port that "
    "`ray start --metrics-export-port` names, 8080 in the manifests"
)


@dataclass(slots=True)
class Request:
    """One HTTP request as its handler sees it."""

    path: str
    query: bytes
    headers: dict[bytes, bytes]
    header_list: list[tuple[bytes, bytes]]
    receive: Receive
    id: str
    watching: Watching | None = None
    """Where the server tells whoever wants to know that the connection is lost."""

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


def make_app(gateway: GatewayLike) -> App:
    """The ASGI application that serves one gateway."""
    return _HttpApi(gateway)


class _HttpApi:
    def __init__(self, gateway: GatewayLike) -> None:
        self._gateway = gateway
        self._limits = gateway.config
        self._get: dict[str, Handler] = {
            "/": self._index,
            "/frontier": self._frontier,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/docs": self._docs,
            "/openapi.json": self._openapi,
        } | {PROBLEMS + code(kind): self._explain for kind in leaves()}
        self._post: dict[str, Handler] = {"/classify": self._classify, "/plan": self._plan}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        request = _request(scope, receive)
        answer = await self._answer(scope["method"], request)
        closing = self._gateway.state in ("draining", "stopped")
        await answer.send(send, request_id=request.id, closing=closing)
        if answer.sent is not None:  # later, so that the bytes leave first
            asyncio.get_running_loop().call_soon(answer.sent)

    async def _answer(self, method: str, request: Request) -> Answer:
        try:
            return await self._handler(method, request.path)(request)
        except ServeError as error:
            return problem(error, instance=request.path, request_id=request.id)
        except Exception as error:
            logger.exception("request_failed", extra={"request_id": request.id})
            return problem(failure(error), instance=request.path, request_id=request.id)

    def _handler(self, method: str, path: str) -> Handler:
        reads, writes = self._get.get(path), self._post.get(path)
        if writes is not None:
            return writes if method == "POST" else _wrong_method(b"POST")
        if reads is not None:
            return reads if method in ("GET", "HEAD") else _wrong_method(b"GET, HEAD")
        return _not_found

    async def _classify(self, request: Request) -> Answer:
        try:
            call = await self._call(request)
        except BaseException as error:
            self._gateway.reject(Transport.HTTP, request.id, failure(error))
            raise
        reply = await self._classify_while_connected(call, request)
        body = orjson.dumps(reply_document(reply))
        return Answer(200, body, sent=partial(self._sent, reply))

    def _sent(self, reply: Reply) -> None:
        self._gateway.replied(reply, Transport.HTTP, now_ms())

    async def _classify_while_connected(self, call: Call, request: Request) -> Reply:
        with CancelledWhenGone(request.watching, request.receive):
            return await self._gateway.classify(call)

    async def _call(self, request: Request) -> Call:
        """The call in a request; what can be refused is refused before its body is read."""
        limits, headers = self._limits, request.headers
        self._authorize(request)
        terms = terms_from_query(
            request.query,
            budget_headers=_budget_headers(request),
            default_budget_ms=limits.default_budget_ms,
            n_labels=len(self._gateway.labels),
        )
        content_type = headers.get(b"content-type", b"")
        media = media_type(content_type)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMedia("encoded bodies are not read: send the picture as it is")
        body = await read_body(
            request.receive,
            declared=headers.get(b"content-length"),
            limit_bytes=limits.max_body_bytes,
            timeout_s=limits.read_timeout_s,
        )
        received_ms = now_ms()
        image = picture_in(body, media=media, content_type=content_type)
        return Call(image, terms, Transport.HTTP, request.id, received_ms)

    def _authorize(self, request: Request) -> None:
        if self._limits.api_keys:
            authorize(request.header(b"authorization"), self._limits.api_keys)

    async def _plan(self, request: Request) -> Answer:
        call = await self._call(request)
        plan = self._gateway.plan(call)
        zoo = self._gateway.zoo_name
        return document(plan_document(plan, zoo=zoo, terms=call.terms, request_id=call.request_id))

    async def _frontier(self, request: Request) -> Answer:
        self._authorize(request)
        return document(frontier_document(self._gateway.zoo_name, self._gateway.frontier()))

    async def _metrics(self, request: Request) -> Answer:
        self._authorize(request)
        text = self._gateway.metrics_text
        if text is None:  # a scrape through the proxy would reach any one of the replicas
            return _plain(request, HTTPStatus.NOT_FOUND, ELSEWHERE)
        return Answer(200, text(), PROMETHEUS)

    async def _healthz(self, _request: Request) -> Answer:
        return document({"state": self._gateway.state})

    async def _readyz(self, _request: Request) -> Answer:
        match self._gateway.state:
            case "ready":
                return document(readiness_document(self._gateway.frontier()))
            case "starting":
                raise NotReady(f"not ready: {self._gateway.not_ready_reason}")
            case "draining" | "stopped":
                raise Draining("the service is shutting down")

    async def _index(self, _request: Request) -> Answer:
        gateway = self._gateway
        return document(
            {
                "service": "mnv4serve",
                "zoo": gateway.zoo_name,
                "state": gateway.state,
                "docs": "/docs",
                "classify": "POST /classify?budget_ms=5 with a picture as the body",
            }
        )

    async def _docs(self, _request: Request) -> Answer:
        return Answer(200, docs_page(), HTML)

    async def _openapi(self, _request: Request) -> Answer:
        return document(openapi_document(self._limits, labels=self._gateway.labels))

    async def _explain(self, request: Request) -> Answer:
        kind = next(kind for kind in leaves() if request.path == PROBLEMS + code(kind))
        meaning = " ".join((kind.__doc__ or "").split())
        return Answer(200, f"{kind.title} ({STATUS[kind]}): {meaning}\n".encode(), TEXT)


def _request(scope: Scope, receive: Receive) -> Request:
    header_list = list(scope["headers"])
    headers = dict(header_list)
    return Request(
        path=scope["path"].removeprefix(scope.get("root_path", "")),
        query=scope["query_string"],
        headers=headers,
        header_list=header_list,
        receive=receive,
        id=request_id(headers.get(b"x-request-id", b"").decode("latin-1")),
        watching=scope.get(WATCHING),
    )


def _budget_headers(request: Request) -> tuple[bytes, ...]:
    if b"x-budget-ms" not in request.headers:
        return ()
    return tuple(value for name, value in request.header_list if name == b"x-budget-ms")


def _wrong_method(allowed: bytes) -> Handler:
    async def refuse(request: Request) -> Answer:
        detail = f"{request.path} answers {allowed.decode()} only"
        headers = ((b"allow", allowed),)
        return _plain(request, HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=headers)

    return refuse


async def _not_found(request: Request) -> Answer:
    detail = f"there is nothing at {request.path[:100]}: /docs lists what there is"
    return _plain(request, HTTPStatus.NOT_FOUND, detail)


def _plain(request: Request, status: HTTPStatus, detail: str, *, headers: Headers = ()) -> Answer:
    return plain_problem(
        status, detail, instance=request.path, request_id=request.id, headers=headers
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
