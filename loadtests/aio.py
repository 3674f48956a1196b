"""Clients for many requests at once on one event loop."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Protocol

import grpc

from loadtests.asks import GRPC_OUTCOMES, Answer, Ask
from loadtests.blocking import (
    CHANNEL_OPTIONS,
    TIMEOUT_S,
    grpc_answer,
    grpc_request,
    http_answer,
    http_request,
    read_head,
)
from mnv4serve.v1 import classifier_pb2_grpc

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Write = Callable[[str, bytes, Ask], bytes]
"""The bytes of one request to a host."""
Read = Callable[[int, bytes], Answer]
"""What a status and a body say."""


class Client(Protocol):
    """Any number of requests at the same time."""

    async def classify(self, image: bytes, ask: Ask) -> Answer: ...
    async def leave(
        self, image: bytes, ask: Ask, *, after_s: float, sent: float = 1.0
    ) -> Answer: ...
    async def close(self) -> None: ...


class HttpClient:
    """HTTP/1.1 over as many kept connections as there are requests at once."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        write: Write = http_request,
        read: Read = http_answer,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._host, self._port = host, port
        self._write, self._read, self._timeout_s = write, read, timeout_s
        self._idle: list[Streams] = []

    async def classify(self, image: bytes, ask: Ask) -> Answer:
        """A cancelled or failed request takes its connection with it."""
        reader, writer = await self._connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(self._write(self._host, image, ask))
                await writer.drain()
                head = read_head(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(head.length)
        except (OSError, EOFError, TimeoutError):
            writer.close()
            return Answer("error")
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        if head.last:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return self._read(head.status, body)

    async def leave(self, image: bytes, ask: Ask, *, after_s: float, sent: float = 1.0) -> Answer:
        """Send a request, or a share of it, and go away without waiting for the answer."""
        _, writer = await self._connection()
        whole = self._write(self._host, image, ask)
        writer.write(whole[: max(1000, round(sent * len(whole)))])
        await asyncio.sleep(after_s)
        writer.transport.abort()
        return Answer("cancelled")

    async def _connection(self) -> Streams:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def open(self, count: int) -> None:
        """Connect ahead of time, so that no request pays for it."""
        for _ in range(count):
            self._idle.append(await asyncio.open_connection(self._host, self._port))

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        await asyncio.gather(
            *(writer.wait_closed() for _, writer in self._idle), return_exceptions=True
        )
        self._idle.clear()


class GrpcClient:
    """The generated stub over one channel."""

    def __init__(self, host: str, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}", options=CHANNEL_OPTIONS)
        stub = classifier_pb2_grpc.ClassifierStub
        self._stub = stub(self._channel)  # type: ignore[no-untyped-call]

    async def classify(self, image: bytes, ask: Ask) -> Answer:
        try:
            reply = await self._stub.Classify(grpc_request(image, ask), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return Answer(GRPC_OUTCOMES.get(error.code().name, "error"))
        return grpc_answer(reply)

    async def leave(self, image: bytes, ask: Ask, *, after_s: float, sent: float = 1.0) -> Answer:
        """Send a request and cancel it; gRPC always sends messages whole."""
        del sent
        call = self._stub.Classify(grpc_request(image, ask), timeout=TIMEOUT_S)
        await asyncio.sleep(after_s)
        call.cancel()
        return Answer("cancelled")

    async def close(self) -> None:
        await self._channel.close()


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact to microseconds; epoll's and uvloop's round to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
