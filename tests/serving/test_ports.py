"""Ports that Ray wants: free, or held by a process that is named."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mnv4serve.config import RayConfig, ServiceConfig
from mnv4serve.errors import AddressTaken, BadConfig
from mnv4serve.serving.cluster import PROXY_PORTS, proxy_ports
from mnv4serve.serving.ports import check_apart, check_free, holders
from mnv4serve.serving.ray_engine import check_ports

HOLDER = """
import pathlib, socket, sys
pathlib.Path("/proc/self/comm").write_text(sys.argv[1])
taken = socket.create_server(("0.0.0.0", 0))
print(taken.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def left_behind(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Process and port of what a killed Ray leaves; HAProxy, where a test says nothing else."""
    command = [sys.executable, "-c", HOLDER, getattr(request, "param", "haproxy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_free_port_is_nobodys() -> None:
    """A port that nobody listens on is had without a word."""
    port = free_port()

    check_free({"X": port})
    assert holders(port) == {}


@pytest.mark.parametrize(
    ("left_behind", "name"),
    [("haproxy", "haproxy"), ("ray::DashboardAgent", "ray::DashboardA")],
    indirect=["left_behind"],
)
def test_what_a_killed_ray_left_is_named(left_behind: tuple[int, int], name: str) -> None:
    """The sentence says which port, which process, whose it is, and both ways out."""
    pid, port = left_behind

    with pytest.raises(AddressTaken) as refused:
        check_free({"RAY_SERVE_HAPROXY_STATS_PORT": port})

    assert str(refused.value) == (
        f"Ray cannot have port {port}, taken by {name} (process {pid}) of a Ray that runs here or "
        f"was killed: `kill -9 {pid}` or set RAY_SERVE_HAPROXY_STATS_PORT to another"
    )


def test_all_that_is_in_the_way_is_named_at_once(left_behind: tuple[int, int], taken: int) -> None:
    """One command ends them all, by force only where nothing but Ray is ended."""
    pid, port = left_behind

    with pytest.raises(AddressTaken) as refused:
        check_free({"X": port, "free": free_port(), "Y": taken})

    said = str(refused.value)
    assert said.startswith(f"Ray cannot have port {port} and {taken}, taken by haproxy")
    assert said.endswith(f": `kill {pid} {os.getpid()}` or set X and Y to another")


def test_any_other_holder_is_named_without_a_guess(taken: int) -> None:
    """Nothing is said of a killed Ray where the holder is another program."""
    pid = os.getpid()

    with pytest.raises(AddressTaken, match=rf"\(process {pid}\): `kill {pid}` or set X") as refused:
        check_free({"X": taken})

    assert "a Ray" not in str(refused.value)


def test_two_settings_may_not_name_one_port() -> None:
    """Each listener wants a port of its own, but for those that take any."""
    check_apart({"--port": 0, "--grpc-port": 0, "stats": 1})

    with pytest.raises(BadConfig, match=r"--port and stats are both 8404"):
        check_apart({"--port": 8404, "stats": 8404})


@pytest.mark.parametrize("setting", PROXY_PORTS)
def test_the_engine_asks_for_the_proxys_ports_before_it_starts(
    setting: str, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either of the proxy's own ports ends the start, and a running cluster's do not."""
    for name in PROXY_PORTS:
        monkeypatch.setenv(name, str(taken if name == setting else free_port()))
    ray = RayConfig(metrics_port=free_port())
    config = ServiceConfig(port=free_port(), grpc_port=free_port(), ray=ray)

    with pytest.raises(AddressTaken, match=f"port {taken}, .* set {setting} to another"):
        check_ports(config)
    joined = ray.model_copy(update={"address": "auto"})
    check_ports(config.model_copy(update={"ray": joined}))


def test_the_proxy_is_named_where_it_has_the_services_port_as_well(
    left_behind: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another --port would only lead to the next port that the same process holds."""
    pid, port = left_behind
    for name in PROXY_PORTS:
        monkeypatch.setenv(name, str(free_port()))
    monkeypatch.setenv("RAY_SERVE_HAPROXY_METRICS_PORT", str(port))
    with socket.create_server(("127.0.0.1", 0)) as own:
        ray = RayConfig(metrics_port=free_port())
        config = ServiceConfig(port=own.getsockname()[1], grpc_port=free_port(), ray=ray)

        with pytest.raises(AddressTaken, match=rf"port {port}, taken by haproxy \(process {pid}\)"):
            check_ports(config)


@pytest.mark.parametrize("value", ["stats", "0", "65536", "-1", ""])
def test_a_switch_that_is_no_port_is_named(value: str) -> None:
    """Ray would end with a traceback, or listen somewhere."""
    with pytest.raises(BadConfig, match="RAY_SERVE_HAPROXY_METRICS_PORT is"):
        proxy_ports({"RAY_SERVE_HAPROXY_METRICS_PORT": value})


def test_a_taken_proxy_port_is_one_sentence_and_exit_code_1(
    tiny_environment: dict[str, str], left_behind: tuple[int, int]
) -> None:
    """The command ends before anything is built or Ray is started."""
    pid, port = left_behind
    environment = {
        **tiny_environment,
        **{name: str(free_port()) for name in PROXY_PORTS},
        "RAY_SERVE_HAPROXY_STATS_PORT": str(port),
        "MNV4SERVE_RAY": f"{{metrics_port: {free_port()}}}",
    }
    ports = ("--port", str(free_port()), "--grpc-port", str(free_port()))

    done = subprocess.run(
        [sys.executable, "-m", "mnv4serve", "serve", "--engine", "ray", *ports],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: Ray cannot have port {port}, taken by haproxy (process {pid})")
