"""Requests from nobody before the first real one: code, threads and buffers are warm when it comes.

They take the whole way but for the sockets, on pools of their own that share the loaded networks,
so that nothing of it is counted, queued or learnt.
"""

import asyncio
from collections.abc import Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

from mnv4serve.backends import Backend
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm
from mnv4serve.metrics import Metrics
from mnv4serve.profiler.decoding import example_photo
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.http_api import App, make_app
from mnv4serve.serving.relay import Passed, answer
from mnv4serve.serving.site import Assembled
from mnv4serve.v1 import classifier_pb2 as pb

ROUNDS = 3
PATIENT_MS = 10_000.0
TIGHT_MS = 5.0
"""Without a pin the router weighs all arms."""


class Lent:
    """A backend whose owner closes it."""

    def __init__(self, backend: Backend) -> None:
        self.infer = backend.infer

    def close(self) -> None: ...


def rehearse(assembled: Assembled, *, labels: Sequence[str]) -> None:
    """Send each arm's requests over both protocols to every slot at once; closes the pools."""
    with ThreadPoolExecutor(1) as apart:  # the caller may be on a loop of its own
        apart.submit(asyncio.run, _rehearse(assembled, labels)).result()


async def _rehearse(assembled: Assembled, labels: Sequence[str]) -> None:
    gateway = Gateway(
        config=ServiceConfig(),
        zoo_name="",
        labels=labels,
        observe=Metrics().observe,
        metrics_text=None,
    )
    gateway.open(assembled)
    app, image = make_app(gateway), example_photo()
    slots = max(pool.routing.ledger.slots for pool in assembled.pools)
    try:
        for asked in _asked([arm for pool in assembled.pools for arm in pool.routing.arms]):
            for _ in range(ROUNDS):
                await asyncio.gather(*(_over_http(app, image, asked) for _ in range(slots)))
                await asyncio.gather(*(_over_grpc(gateway, image, asked) for _ in range(slots)))
    finally:
        gateway.close()


def _asked(arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    for arm in arms:
        yield {"variant": arm.variant, "backend": arm.backend.value, "budget_ms": PATIENT_MS}
    yield {"budget_ms": TIGHT_MS}


async def _over_http(app: App, image: bytes, asked: dict[str, Any]) -> None:
    coming = [{"type": "http.request", "body": image, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return coming.pop() if coming else await asyncio.Future()

    async def send(_: MutableMapping[str, Any]) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/classify",
        "query_string": urlencode(asked).encode(),
        "headers": [(b"content-type", b"image/jpeg")],
    }
    await app(scope, receive, send)


async def _over_grpc(gateway: Gateway, image: bytes, asked: dict[str, Any]) -> None:
    request = pb.ClassifyRequest(image=image, **asked)
    await answer(gateway, Passed("Classify", request.SerializeToString(), (), None))
