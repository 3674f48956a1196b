"""`top` against a service that is always the same."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from mnv4serve.cli import app
from mnv4serve.cli.live import live_view
from mnv4serve.client import AsyncClient, Frontier, Unreachable
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import Unauthorized
from tests.fakes import ARM, UNCERTIFIED, FakeGateway
from tests.servers import serving_http


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with serving_http(FakeGateway()) as address:
        yield address


async def invoke(*arguments: str) -> Result:
    """A command in a thread, so that the service can answer it."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["top", *arguments])


async def frontier(address: str) -> Frontier:
    async with AsyncClient(address) as client:
        return await client.frontier()


def drawn(found: Frontier, *, width: int, every_arm: bool = False) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(live_view(found, address="http://somewhere", every_arm=every_arm))
    return captured.get()


async def test_one_view_names_arms_pools_and_refusals(address: str) -> None:
    """All that one watches a service for stands in one view."""
    result = await invoke(address, "--once")

    assert result.exit_code == 0
    assert "8 requests in 2 s" in result.stdout
    assert "75.0%" in result.stdout
    assert ARM.id in result.stdout
    assert "1 of 2" in result.stdout
    assert "1.25" in result.stdout
    assert "busy" in result.stdout


async def test_json_is_the_services_own_document(address: str) -> None:
    """A script reads what GET /frontier says and nothing else."""
    result = await invoke(address, "--json")

    async with httpx.AsyncClient(base_url=address) as http:
        document = (await http.get("/frontier")).text
    assert result.exit_code == 0
    assert (
        httpx.Response(200, text=result.stdout).json() == httpx.Response(200, text=document).json()
    )


async def test_arms_that_are_not_loaded_are_shown_on_demand(address: str) -> None:
    """Only what can be chosen is listed, and the view says that there is more."""
    found = await frontier(address)

    usual, every = drawn(found, width=120), drawn(found, width=120, every_arm=True)

    assert UNCERTIFIED.id not in usual
    assert "1 more are not loaded (--all)" in usual
    assert f"{UNCERTIFIED.id} (simulated)" in every


async def test_a_narrow_terminal_keeps_the_numbers(address: str) -> None:
    """Names give way first."""
    view = drawn(await frontier(address), width=62)

    assert max(map(len, view.splitlines())) <= 62
    assert all(number in view for number in ("0.8712", "1.12", "1.50", "3.25", "100.0%", "87.5%"))


async def test_a_service_that_still_starts_has_no_arms(address: str) -> None:
    """An empty table says why it is empty."""
    view = drawn(replace(await frontier(address), arms=(), pools=()), width=100)

    assert "no arm is loaded yet" in view


async def test_a_key_is_asked_for_and_accepted() -> None:
    """Where keys are configured, watching needs one too."""
    gateway = FakeGateway(config=ServiceConfig(api_keys=("key-one",)))

    async with serving_http(gateway) as address:
        without = await invoke(address, "--once")
        with_key = await invoke(address, "--once", "--api-key", "key-one")

    assert isinstance(without.exception, Unauthorized)
    assert with_key.exit_code == 0


async def test_another_server_is_told_from_the_service() -> None:
    """Something else that answers is not drawn."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        result = await invoke(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "--once")

    assert isinstance(result.exception, Unreachable)
    assert "comes from no mnv4serve" in str(result.exception)


def test_where_nothing_answers_one_sentence_says_what_to_do() -> None:
    """No traceback, nothing on stdout, exit code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "mnv4serve", "top", "http://127.0.0.1:1"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "nothing answers at http://127.0.0.1:1: start one with `mnv4serve serve`" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


async def test_anything_but_http_is_wrong_usage() -> None:
    """The view is read over HTTP."""
    result = await invoke("grpc://127.0.0.1:9000")

    assert result.exit_code == 2
    assert "grpc://127.0.0.1:9000 is no address" in result.stderr


async def test_q_ends_the_live_view(address: str) -> None:
    """In a terminal the view stays until somebody quits, and the exit code is 0."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mnv4serve", "top", address, "--interval", "0.1"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""
    while ARM.id.encode() not in seen:
        seen += await asyncio.to_thread(os.read, ours, 65536)

    os.write(ours, b"xq")
    reading = asyncio.create_task(asyncio.to_thread(drain, ours))
    exit_code = await process.wait()

    await reading
    os.close(ours)
    assert exit_code == 0


def drain(terminal: int) -> None:
    """Read until the other side is closed, which Linux tells as an error."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass
