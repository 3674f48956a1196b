"""Starts what is measured on free ports of this machine, and stops it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

HOST = "127.0.0.1"
START_TIMEOUT_S = 600.0
"""A first start builds artifacts and measures the host."""
STOP_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server of this machine."""

    process: psutil.Process
    port: int
    grpc_port: int = 0

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=10) as reply:
            content: bytes = reply.read()
            return content


@contextmanager
def our_server(
    settings: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    *,
    ports: tuple[int, int] | None = None,
) -> Iterator[Server]:
    """`mnv4serve serve` as a user starts it; settings are environment variables."""
    port, grpc_port = ports or (free_port(), free_port())
    command = [
        *(sys.executable, "-m", "mnv4serve", "serve"),
        *("--port", str(port), "--grpc-port", str(grpc_port), *flags),
    ]
    with _running(command, settings or {}) as process:
        server = Server(process, port, grpc_port)
        _wait_until_ready(server, "/readyz")
        yield server


@contextmanager
def plain_server(flags: Sequence[str]) -> Iterator[Server]:
    """The Starlette server of `loadtests.plain`."""
    port = free_port()
    command = [sys.executable, "-m", "loadtests.plain", "--port", str(port), *flags]
    with _running(command, {}) as process:
        server = Server(process, port)
        _wait_until_ready(server, "/healthz")
        yield server


@contextmanager
def _running(command: Sequence[str], settings: Mapping[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(command, env=os.environ | dict(settings), stdout=sys.stderr)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(server: Server, path: str) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up:
        if not server.process.is_running() or server.process.status() == psutil.STATUS_ZOMBIE:
            raise SystemExit("the server ended before it was ready; its message stands above")
        try:
            server.get(path)
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the server was not ready within {START_TIMEOUT_S:.0f} s")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
