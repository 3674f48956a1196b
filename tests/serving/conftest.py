"""Clusters of this machine for the tests that need Ray, one at a time."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

START_S = 240.0
QUICK = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_PORT_QUARANTINE_S": "0",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "5",
}
CONFIG = """
pools:
  - {device: cpu, backends: [cpu], cpus: 1, slots: 1, threads: 1}
  - device: cpu
    name: far
    backends: [onnx]
    cpus: 1
    slots: 1
    threads: 1
    placement: deployment
late_limit_ms: 500
max_queue: 8
max_body_bytes: 200000
drain_timeout_s: 2
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`mnv4serve serve --engine ray` as a user starts it."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    metrics: str


def replicas(deployment: str) -> list[psutil.Process]:
    """The processes of a deployment's replicas."""
    title = f"ray::ServeReplica:mnv4serve:{deployment}"
    return [one for one in psutil.process_iter(["cmdline"]) if title in _title(one)]


@pytest.fixture(scope="module")
def cluster(
    tiny_models: Path, tiny_state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A started service; it has to end well, too, when it is told to."""
    pytest.importorskip("ray", reason="the ray engine needs Ray: pip install 'mnv4serve[ray]'")
    folder = tmp_path_factory.mktemp("ray")
    config, log = folder / "service.yaml", folder / "log"
    config.write_text(CONFIG, encoding="utf-8")
    http, grpc, metrics = (free_port() for _ in range(3))
    environment = {
        **os.environ,
        **QUICK,
        "MNV4SERVE_MODELS": str(tiny_models),
        "MNV4SERVE_STATE_DIR": str(tiny_state),
        "MNV4SERVE_RAY": f"{{metrics_port: {metrics}}}",
    }
    command = [
        *(sys.executable, "-m", "mnv4serve", "serve", "--engine", "ray", "--config", str(config)),
        *("--port", str(http), "--grpc-port", str(grpc)),
    ]
    end_proxies()
    with log.open("wb") as written:
        process = subprocess.Popen(command, env=environment, stdout=written, stderr=written)
    try:
        wait_until_ready(process, f"http://127.0.0.1:{http}/readyz", log)
        yield Cluster(
            process,
            f"http://127.0.0.1:{http}",
            f"127.0.0.1:{grpc}",
            f"http://127.0.0.1:{metrics}/metrics",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text(encoding="utf-8")
    finally:
        if process.poll() is None:
            process.kill()
        end_proxies()


def end_proxies() -> None:
    """End this environment's HAProxy, which outlives a killed Ray and keeps its fixed ports."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(sys.prefix) and command[0].endswith("/haproxy"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(5)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8"))


def free_port() -> int:
    """Below the ports that systems hand out, of which Ray takes dozens meanwhile."""
    for port in random.sample(range(20_000, 29_000), 50):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")


def _title(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())
