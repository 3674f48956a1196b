"""Connections that send no request, only parts of one: none is held for ever, none fills memory."""

import asyncio

import httpx
import pytest

from mnv4serve.serving import http_protocol
from tests.fakes import FakeGateway
from tests.servers import serving_http

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


async def converse(address: str, *pieces: bytes) -> bytes:
    """All that comes back until the service closes, while pieces are sent one by one."""
    _, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    answer = await asyncio.wait_for(reader.read(), timeout=10)
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("sent", "begins"),
    [((), b""), ((HEAD,), b"HTTP/1.1 408 "), ((HEAD + b"\r\n", HEAD), b"HTTP/1.1 200 ")],
    ids=["nothing", "half a head", "a request and half a head"],
)
async def test_a_head_that_does_not_come_ends_the_connection(
    sent: tuple[bytes, ...], begins: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle and dripping connections are closed; who began to ask is told 408."""
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)

    async with serving_http(FakeGateway()) as address:
        answer = await converse(address, *sent)

    assert answer.startswith(begins)
    assert (b"HTTP/1.1 408 " in answer) == bool(sent)


async def test_an_endless_head_is_refused() -> None:
    """Headers are read into memory, so there is an end to them: 431."""
    endless = (HEAD + b"X: ").ljust(http_protocol.MAX_HEAD_BYTES + 1, b"a")

    async with serving_http(FakeGateway()) as address:
        answer = await converse(address, endless)

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_large_head_within_the_limit_is_read() -> None:
    """Cookies and tokens of tens of kilobytes are somebody's normal."""
    large = (HEAD + b"Connection: close\r\nX: ").ljust(http_protocol.MAX_HEAD_BYTES // 2, b"a")

    async with serving_http(FakeGateway()) as address:
        answer = await converse(address, large, b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_the_deadline_ends_with_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between requests a connection is left to the keep-alive timer, which is another matter."""
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)

    async with serving_http(FakeGateway()) as address, httpx.AsyncClient() as http:
        first = await http.get(f"{address}/healthz")
        await asyncio.sleep(0.2)
        second = await http.get(f"{address}/healthz")

    assert [first.status_code, second.status_code] == [200, 200]
    assert first.extensions["network_stream"] is second.extensions["network_stream"]
