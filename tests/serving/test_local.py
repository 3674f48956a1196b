"""The engine as a process: ports, readiness, both protocols, draining, being killed with work."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mnv4serve.client import Client
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import AddressTaken, MnvError
from mnv4serve.serving.local import check_addresses
from mnv4serve.v1 import classifier_pb2_grpc
from tests.serving.rig import jpeg

READY_S = 60.0


@dataclass
class Service:
    """A running `mnv4serve serve`."""

    process: subprocess.Popen[str]
    http: str
    grpc: str


@contextmanager
def service(environment: dict[str, str], log: Path, *flags: str) -> Iterator[Service]:
    """Start it on free ports, wait until it is ready, stop it."""
    ports = ("--port", "0", "--grpc-port", "0")
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnv4serve", "serve", *ports, *flags],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        text = _wait_for_banner(process, log)
        http = re.search(r"(http://[\d.:]+)/docs", text)
        grpc = re.search(r"gRPC +([\d.:]+)", text)
        assert http is not None
        assert grpc is not None
        yield Service(process, http[1], f"grpc://{grpc[1]}")
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        finally:
            process.kill()


def _wait_for_banner(process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8")
        if "mnv4serve.v1.Classifier" in text:
            return text
        assert process.poll() is None, text
        time.sleep(0.1)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_one_process_serves_both_protocols(
    tiny_environment: dict[str, str], tmp_path: Path
) -> None:
    """Both transports give the same labels, and the metrics count both answers."""
    with service(tiny_environment, tmp_path / "log") as running:
        with Client(running.http) as client:
            over_http = client.classify(jpeg(), budget_ms=5000, variant="conv_small_035@64")
        with Client(running.grpc) as client:
            over_grpc = client.classify(jpeg(), budget_ms=5000, variant="conv_small_035@64")
        metrics = httpx.get(f"{running.http}/metrics").text
        ready = httpx.get(f"{running.http}/readyz").status_code

    assert [p.label for p in over_http.predictions] == [p.label for p in over_grpc.predictions]
    assert ready == 200
    for transport in ("http", "grpc"):
        assert re.search(rf'requests_total{{.*transport="{transport}".*}} 1.0', metrics), metrics


def test_a_taken_port_is_one_sentence_and_exit_code_1(tiny_environment: dict[str, str]) -> None:
    """The message names address and flag, and nothing is left running."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for flag in ("--port", "--grpc-port"):
            other = "--grpc-port" if flag == "--port" else "--port"
            port = str(taken.getsockname()[1])
            done = subprocess.run(
                [sys.executable, "-m", "mnv4serve", "serve", flag, port, other, "0"],
                env=tiny_environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

            assert done.returncode == 1
            lines = done.stderr.strip().splitlines()
            assert lines[-1] == (
                f"error: cannot listen on 127.0.0.1:{port}: "
                f"it is in use, choose another port with {flag}"
            )
            assert "Traceback" not in done.stderr
            assert "bind" not in done.stderr  # what grpc logs of its own accord


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_told_as_such(host: str) -> None:
    """Another port would not help, so it is not what the sentence says."""
    config = ServiceConfig(host=host, port=0, grpc_port=0)

    with pytest.raises(AddressTaken, match=rf"{host}:0: .*with --host"):
        check_addresses(config)


def test_sigterm_finishes_what_is_in_flight(
    tiny_environment: dict[str, str], tmp_path: Path
) -> None:
    """While draining, readiness is gone but requests are answered; afterwards it exits with 0."""
    tiny_environment["MNV4SERVE_DRAIN_DELAY_S"] = "4"
    with service(tiny_environment, tmp_path / "log") as running:
        failures: list[MnvError | httpx.HTTPError] = []
        seen = Event()

        def load() -> None:
            with Client(running.http) as client:
                while not seen.is_set():
                    try:
                        client.classify(jpeg(), budget_ms=1000)
                    except (MnvError, httpx.HTTPError) as error:
                        failures.append(error)

        loading = Thread(target=load)
        loading.start()
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        draining = httpx.get(f"{running.http}/readyz")
        seen.set()
        loading.join()
        code = running.process.wait(timeout=30)

    assert draining.status_code == 503
    assert draining.headers["connection"] == "close"
    assert failures == []
    assert code == 0


def test_sigterm_does_not_wait_for_an_open_watch_or_an_idle_stream(
    tiny_environment: dict[str, str], tmp_path: Path
) -> None:
    """Callers that only listen do not hold up the end until the drain's own limit."""
    with service(tiny_environment, tmp_path / "log") as running:
        channel = grpc.insecure_channel(running.grpc.removeprefix("grpc://"))
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        next(watch)
        stop_sending = Event()
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        stream = stub.ClassifyStream(iter(lambda: stop_sending.wait() and None, None))
        running.process.send_signal(signal.SIGTERM)

        code = running.process.wait(timeout=15)  # the drain's own limit is 30 s

        stop_sending.set()
        stream.cancel()
        channel.close()
    assert code == 0


def test_sigterm_while_starting_ends_it(tiny_environment: dict[str, str], tmp_path: Path) -> None:
    """Nobody waits for a measurement whose result nobody will use."""
    log = tmp_path / "log"
    tiny_environment["MNV4SERVE_POOLS"] = "[{slots: 1, threads: 2}]"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnv4serve", "serve", "--port", "0", "--grpc-port", "0"],
            env=tiny_environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + READY_S
    while "getting ready" not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    process.terminate()

    assert process.wait(timeout=20) == 0
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_the_pages_a_newcomer_clicks_are_there(
    tiny_environment: dict[str, str], tmp_path: Path
) -> None:
    """What the banner and the index point to answers."""
    with service(tiny_environment, tmp_path / "log") as running:
        for path in ("/", "/docs", "/openapi.json", "/frontier", "/healthz"):
            assert httpx.get(f"{running.http}{path}").status_code == 200, path
