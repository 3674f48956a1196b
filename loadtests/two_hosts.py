"""Two hosts for real: a cluster over two network namespaces, and what a cut link costs.

    sudo python -m loadtests.two_hosts

A Ray head with the ingress and its colocated pool lives in one namespace, a worker with a pool of
its own in the other, with a virtual cable between them. Under a steady load the cable is cut and
mended; every answer is timed.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests import report
from loadtests.flags import command_line, positive
from mnv4serve.serving.cluster import set_flags

HEAD, WORKER = "mnv4-head", "mnv4-worker"
ADDRESS = {HEAD: "10.99.7.1", WORKER: "10.99.7.2"}
CABLE = {HEAD: "mnv4-veth0", WORKER: "mnv4-veth1"}
HTTP_PORT, GRPC_PORT, GCS_PORT = 8000, 9000, 6379
NODE_START_S = 8.0
FAR = "budget_ms=1000&backend=onnx"
"""A request that only the pool on the worker may answer."""
EXAMPLE = Path(__file__).parents[1] / "models" / "examples" / "golf_ball.jpg"
CONFIG = """
host: 0.0.0.0
pools:
  - {device: cpu, backends: [cpu], cpus: 1, slots: 1, threads: 1}
  - device: cpu
    name: far
    backends: [onnx]
    cpus: 1
    slots: 1
    threads: 1
    placement: deployment
    resources: {far: 1}
ray: {address: "10.99.7.1:6379", ingress_resources: {near: 1}}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request of the steady load."""

    at_s: float
    latency_ms: float
    status: int
    device: str


def run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=not check)


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two namespaces with a cable between them; gone afterwards."""
    for name in (HEAD, WORKER):
        run("ip", "netns", "del", name, check=False)
    try:
        for name in (HEAD, WORKER):
            run("ip", "netns", "add", name)
        run("ip", "link", "add", CABLE[HEAD], "type", "veth", "peer", "name", CABLE[WORKER])
        for name in (HEAD, WORKER):
            inside = ("ip", "-n", name)
            run("ip", "link", "set", CABLE[name], "netns", name)
            run(*inside, "addr", "add", f"{ADDRESS[name]}/24", "dev", CABLE[name])
            run(*inside, "link", "set", CABLE[name], "up")
            run(*inside, "link", "set", "lo", "up")
        yield
    finally:
        for name in (HEAD, WORKER):
            run("ip", "netns", "del", name, check=False)


def node(name: str, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """A Ray node in a namespace, in the foreground."""
    ray = str(Path(sys.executable).with_name("ray"))
    resources = {"near": 1} if name == HEAD else {"far": 1}
    where = (
        ["--head", f"--port={GCS_PORT}", "--include-dashboard=false"]
        if name == HEAD
        else [f"--address={ADDRESS[HEAD]}:{GCS_PORT}"]
    )
    command = [
        *("ip", "netns", "exec", name, ray, "start", "--block", *where),
        *(f"--node-ip-address={ADDRESS[name]}", "--num-cpus=1"),
        *(f"--resources={json.dumps(resources)}", "--object-store-memory=78643200"),
        f"--temp-dir={folder / name}" if name == HEAD else "--disable-usage-stats",
    ]
    log = (folder / f"{name}.log").open("wb")
    return subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)


def ask(query: str, timeout_s: float = 10.0) -> tuple[int, str]:
    """Status and device of one request, asked from within the head's namespace."""
    url = f"http://127.0.0.1:{HTTP_PORT}/classify?{query}"
    command = [
        *("ip", "netns", "exec", HEAD, "curl", "--silent", "--max-time", f"{timeout_s:g}"),
        *("--data-binary", f"@{EXAMPLE}", "--write-out", "\n%{http_code}", url),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    body, _, status = printed.rpartition("\n")
    device = json.loads(body).get("device", "") if body.startswith("{") else ""
    return int(status or 0), device


def steady(answers: list[Answer], stop: threading.Event, start: float) -> None:
    """Ask again and again what either pool may answer."""
    while not stop.is_set():
        sent = time.monotonic()
        status, device = ask("budget_ms=2000")
        ended = time.monotonic()
        answers.append(Answer(sent - start, (ended - sent) * 1000, status, device))


def until(query: str, wanted: int, limit_s: float) -> float:
    """Seconds until a request ends with the wanted status."""
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if ask(query)[0] == wanted:
            return time.monotonic() - start
        time.sleep(0.05)
    raise SystemExit(f"no {wanted} within {limit_s:g} s for {query}")


def cable(state: str) -> None:
    run("ip", "-n", WORKER, "link", "set", CABLE[WORKER], state)


def measure(cut_s: float) -> dict[str, object]:
    """Cut the cable under load, mend it, and tell what callers saw."""
    answers: list[Answer] = []
    stop, start = threading.Event(), time.monotonic()
    load = threading.Thread(target=steady, args=(answers, stop, start))
    load.start()
    time.sleep(3)
    cable("down")
    cut_at = time.monotonic() - start
    detected_s = until(FAR, 503, 30)
    time.sleep(cut_s)
    cable("up")
    back_s = until(FAR, 200, 120)
    time.sleep(2)
    stop.set()
    load.join()
    after_cut = [one for one in answers if one.at_s >= cut_at]
    return {
        "requests": len(answers),
        "statuses": dict(Counter(one.status for one in answers)),
        "devices": dict(Counter(one.device for one in answers)),
        "detected_s": round(detected_s, 2),
        "back_s": round(back_s, 2),
        "longest_ms_after_cut": round(max(one.latency_ms for one in after_cut), 1),
    }


def serve(environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """The service on the running cluster, from the head's namespace."""
    (folder / "service.yaml").write_text(CONFIG, encoding="utf-8")
    command = [
        *("ip", "netns", "exec", HEAD, sys.executable, "-m", "mnv4serve", "serve"),
        *("--engine", "ray", "--config", str(folder / "service.yaml")),
    ]
    return subprocess.Popen(command, env=dict(environment))


def main(arguments: Sequence[str] | None = None) -> None:
    flags = command_line("loadtests.two_hosts", __doc__)
    flags.add_argument(
        "--cut-s",
        type=positive,
        default=4.0,
        help="seconds that the link is cut; default %(default)s",
    )
    options = flags.parse_args(arguments)
    environment = dict(os.environ)
    set_flags(environment, max_body_bytes=10_000_000)
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="two-")))
        stack.enter_context(two_hosts())
        for name in (HEAD, WORKER):
            stack.callback(node(name, environment, folder).terminate)
            time.sleep(NODE_START_S)
        service = serve(environment, folder)
        stack.callback(service.wait, 60)
        stack.callback(service.terminate)
        until(FAR, 200, 240)
        found = measure(options.cut_s)
    report.table("A cut link", ("", ""), list(found.items()))
    report.save("two_hosts", found)


if __name__ == "__main__":
    main()
