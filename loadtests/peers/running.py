"""Starts one contender, waits until it answers right, and stops all of its processes."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.asks import ROOT, Ask
from loadtests.blocking import HttpClient
from loadtests.peers.contenders import Contender
from loadtests.peers.environments import PeerUnavailable, environments_folder
from loadtests.peers.wire import Document
from loadtests.peers.work import Asked
from loadtests.servers import HOST, free_port

START_TIMEOUT_S = 300.0
"""A busy machine takes its time to import and compile forty arms."""
GRACE_S = 5.0
STOP_TIMEOUT_S = 15.0
MS = 1000.0
LOG_LINES = 5
SURROUNDINGS = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # 5 are too few on a busy machine
}
EVERY_ARM = {"MNV4SERVE_MAX_ARMS": "64", "MNV4SERVE_MEMORY_LIMIT_BYTES": str(4 << 30)}
"""Where one arm is pinned it has to be resident; otherwise the service has its defaults."""
TOLERANCE = 0.02
"""Of a probability: another numpy may round a resize differently."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers."""

    contender: Contender
    port: int
    process: psutil.Process

    def cpu_ms(self) -> float:
        """Processor time of all its processes so far."""
        return sum(map(_cpu_ms, _tree(self.process)))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the bare work says about a picture, and who may say it."""

    image: bytes
    label: str
    probability: float
    arms: frozenset[str]
    """What may answer; any where empty."""


@contextmanager
def running(
    contender: Contender, interpreter: Path, asked: Asked, *, ask: Ask, expected: Expected
) -> Iterator[Running]:
    """The contender while it runs; raises PeerUnavailable where it never answers right."""
    command, settings = _command(contender, interpreter, asked)
    log = environments_folder() / "logs" / f"{contender.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as written:
        started = subprocess.Popen(
            command, env=_environment(interpreter) | dict(settings), cwd=ROOT,
            stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        found = Running(contender, asked.port, psutil.Process(started.pid))
        try:
            _wait_until_right(found, started, log, ask=ask, expected=expected)
            yield found
        finally:
            _stop(started, found.process)


def _command(
    contender: Contender, interpreter: Path, asked: Asked
) -> tuple[Sequence[str], Mapping[str, str]]:
    arguments = [argument.format(port=asked.port) for argument in contender.command]
    if not contender.ours:
        return [str(interpreter), *arguments], asked.environment()
    ports = ["--port", str(asked.port), "--grpc-port", str(free_port())]
    command = [str(interpreter), "-m", "mnv4serve", "serve", *arguments, *ports]
    return command, EVERY_ARM if asked.arm else {}


def _environment(interpreter: Path) -> dict[str, str]:
    """The peer finds its own programs first, and this project's modules."""
    path = os.pathsep.join((str(interpreter.parent), os.environ["PATH"]))
    return (
        os.environ | SURROUNDINGS | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    )


def _wait_until_right(
    found: Running, started: subprocess.Popen[bytes], log: Path, *, ask: Ask, expected: Expected
) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    label, problem = found.contender.label, ""
    while time.monotonic() < give_up:
        if started.poll() is not None:
            raise PeerUnavailable(f"{label} ended before it answered: {_last_lines(log)}")
        try:
            document = classify_once(found, expected.image, ask)
        except (OSError, ValueError, KeyError) as error:
            problem = f"{type(error).__name__} {error}"
            time.sleep(0.1)
            continue
        _check(label, document, expected)
        return
    waited = f"{label} gave no answer in {START_TIMEOUT_S:.0f} s"
    raise PeerUnavailable(f"{waited}, last {problem}: {_last_lines(log)}")


def classify_once(found: Running, image: bytes, ask: Ask) -> Document:
    """One answer; ValueError where the status is not 200."""
    wire = found.contender.wire
    client = HttpClient(HOST, found.port)
    try:
        status, body = client.exchange(wire.write(HOST, image, ask))
    finally:
        client.close()
    if wire.read(status, body).arm == "":
        raise ValueError(f"status {status}")
    return wire.document(body)


def _check(label: str, document: Document, expected: Expected) -> None:
    best = document["predictions"][0]
    if expected.arms and document["arm"] not in expected.arms:
        raise PeerUnavailable(f"{label} serves {document['arm']}, not {min(expected.arms)}")
    near = not expected.arms or abs(best["probability"] - expected.probability) <= TOLERANCE
    if best["label"] != expected.label or not near:
        said = f"{best['label']} at {best['probability']:.3f}"
        right = f"{expected.label} at {expected.probability:.3f}"
        raise PeerUnavailable(f"{label} answers {said} where the bare work says {right}")


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines()]
    return " / ".join([line for line in lines if line][-LOG_LINES:]) or f"{log} is empty"


def _stop(started: subprocess.Popen[bytes], process: psutil.Process) -> None:
    """The whole tree: some servers leave their workers behind when they are told alone."""
    tree = _tree(process)
    started.terminate()
    _, alive = psutil.wait_procs(tree, timeout=GRACE_S)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    _, alive = psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
    started.wait(STOP_TIMEOUT_S)


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_ms(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(used.user + used.system) * MS
