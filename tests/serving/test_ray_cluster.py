"""The service on a cluster that was there before: declared, changed and disturbed under load."""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mnv4serve.errors import BadConfig
from mnv4serve.serving.cluster import REQUIRED
from tests.serving.conftest import replicas
from tests.serving.declared import Declared, declared, node
from tests.serving.load import CALLERS, grpc_load, load
from tests.serving.rig import jpeg

pytestmark = pytest.mark.ray
LARGE = jpeg(2400, 1600)
"""Takes a slot longer to decode than everything else on its way."""
POOLS = [
    {"device": "cpu", "backends": ["cpu"], "cpus": 1, "slots": 1, "threads": 1},
    {
        "device": "cpu",
        "name": "far",
        "backends": ["onnx"],
        "cpus": 1,
        "slots": 1,
        "threads": 1,
        "placement": "deployment",
        "max_replicas": 2,
    },
]
RENAMED = {"zoos.tiny": "zoos.second", '"tiny"': '"second"', 'name = "red"': 'name = "crimson"'}


async def until(holds: Callable[[], bool], limit_s: float = 90.0) -> None:
    """Wait for something to hold."""
    give_up = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def bare_cluster(tiny_models: Path, tiny_state: Path) -> Iterator[Declared]:
    """A head that wants a token, nothing on it."""
    pytest.importorskip("ray", reason="the ray engine needs Ray: pip install 'mnv4serve[ray]'")
    arguments = {
        "engine": "ray",
        "models": str(tiny_models),
        "state_dir": str(tiny_state),
        "pools": POOLS,
        "drain_timeout_s": 2,
        "ray": {"ingress_replicas": 2},
    }
    with (
        tempfile.TemporaryDirectory(prefix="mnv4-") as folder,
        declared(Path(folder), arguments) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def cluster(bare_cluster: Declared) -> Declared:
    """With the service on it."""
    done = bare_cluster.deploy()
    assert done.returncode == 0, done.stderr
    bare_cluster.until("RUNNING")
    return bare_cluster


def test_who_does_not_know_the_token_is_told(bare_cluster: Declared) -> None:
    """Missing and wrong: one sentence that says what to set, without the token in it."""
    command = [sys.executable, "-m", "mnv4serve", "serve", "--engine", "ray"]
    command += ["--port", "0", "--grpc-port", "0"]
    settings = {
        "MNV4SERVE_RAY": f'{{address: "{bare_cluster.address}"}}',
        "MNV4SERVE_MODELS": bare_cluster.arguments["models"],
        "MNV4SERVE_STATE_DIR": bare_cluster.arguments["state_dir"],
    }
    environments = [
        {**bare_cluster.environment, **settings, "RAY_AUTH_TOKEN": token, "RAY_AUTH_MODE": mode}
        for mode, token in (("disabled", ""), ("token", "f" * 64))
    ]

    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for environment in environments
    ]

    for process in running:
        _, told = process.communicate(timeout=90)
        assert process.returncode == 1
        assert "RAY_AUTH_TOKEN" in told.splitlines()[-1]
        assert bare_cluster.environment["RAY_AUTH_TOKEN"] not in told


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param("flags", next(iter(REQUIRED)), id="a worker without the switches"),
        pytest.param("version", "mnv4serve 9.9", id="a worker with another version"),
    ],
)
def test_a_worker_that_differs_is_named(bare_cluster: Declared, wrong: str, named: str) -> None:
    """The application is refused before a replica lands there."""
    environment = dict(bare_cluster.environment)
    if wrong == "flags":
        del environment[named]
    else:
        distribution = bare_cluster.folder / "other" / "mnv4serve-9.9.dist-info"
        distribution.mkdir(parents=True)
        (distribution / "METADATA").write_text("Name: mnv4serve\nVersion: 9.9\n")
        environment["PYTHONPATH"] = f"{distribution.parent}:{environment.get('PYTHONPATH', '')}"
    log = bare_cluster.folder / f"{wrong}.log"
    flags = (f"--address={bare_cluster.address}", "--num-cpus=0")

    with node(environment, log, *flags, "--node-ip-address=127.0.0.2"):
        while "Ray runtime started" not in log.read_text(encoding="utf-8"):
            time.sleep(0.2)
        bare_cluster.deploy()
        refused = bare_cluster.until("DEPLOY_FAILED")

    assert BadConfig.__name__ in refused["message"]
    assert named in refused["message"]
    assert "127.0.0.2" in refused["message"]


def test_a_missing_artifact_is_told_with_the_command(bare_cluster: Declared) -> None:
    """A replica builds nothing: it says what has to be run where it is."""
    bare_cluster.deploy(state_dir=str(bare_cluster.folder / "empty"))

    refused = bare_cluster.until("DEPLOY_FAILED")

    told = [one["message"] for one in refused["deployments"].values()]
    assert any("mnv4serve build" in message for message in told), told


def test_a_wrong_key_is_named(bare_cluster: Declared) -> None:
    """A misspelt key of `args` fails the deployment with its name."""
    bare_cluster.deploy(max_quue=3)

    assert "max_quue" in bare_cluster.until("DEPLOY_FAILED")["message"]


async def test_what_is_served_changes_without_losing_a_request(
    cluster: Declared, tiny_models: Path
) -> None:
    """A new zoo by `user_config`, under load: every request is answered, by one or the other."""
    second = cluster.folder / "second"
    shutil.copytree(tiny_models, second)
    catalog = second / "catalog.toml"
    text = catalog.read_text(encoding="utf-8")
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    catalog.write_text(text, encoding="utf-8")
    before = {one.pid for one in replicas("")}

    async with load(cluster) as tally:
        await until(lambda: tally.answers["tiny"] > 0)
        done = await asyncio.to_thread(cluster.deploy, user_config={"models": str(second)})
        assert done.returncode == 0, done.stderr
        await until(lambda: tally.answers["second"] > 0)
        await asyncio.to_thread(cluster.until, "RUNNING")
        await asyncio.sleep(1)

    assert (tally.failed, tally.mixed_up) == (0, 0), tally
    assert before <= {one.pid for one in replicas("")}


async def test_a_pool_grows_with_the_work_it_is_offered(cluster: Declared) -> None:
    """A busy slot asks for another replica, and callers of both ingresses use them both."""
    query = "budget_ms=3000&backend=onnx"

    async with load(cluster, query=query, image=LARGE, callers=8) as tally:
        await until(lambda: len(replicas("pool-far")) == 2)
        await until(lambda: _spread(replicas("pool-far")) > 0.25)

    assert tally.failed == 0, tally


def _spread(processes: list[psutil.Process], seconds: float = 2.0) -> float:
    """The smallest share that one of the processes has of the work of all."""
    before = [sum(one.cpu_times()[:2]) for one in processes]
    time.sleep(seconds)
    used = [sum(one.cpu_times()[:2]) - b for one, b in zip(processes, before, strict=True)]
    return float(min(used) / max(1e-9, sum(used)))


async def test_a_killed_ingress_costs_what_it_had_in_hand(cluster: Declared) -> None:
    """Of two ingress replicas one is killed under load: nothing is lost but what it worked on."""
    async with load(cluster) as http, grpc_load(cluster) as over_grpc:
        tallies = (http, over_grpc)
        await until(lambda: all(sum(one.answers.values()) > 20 for one in tallies))
        killed = replicas("ingress")[0]
        killed.send_signal(signal.SIGKILL)
        await asyncio.sleep(3)
        lost = [one.failed for one in tallies]
        await until(lambda: len(replicas("ingress")) == 2)

    assert max(lost) <= CALLERS, tallies
    assert [one.failed for one in tallies] == lost, tallies
    assert not any(one.failed_again for one in tallies), tallies


async def test_a_rolling_update_fails_no_request_twice(
    cluster: Declared, record_property: Callable[[str, object], None]
) -> None:
    """New code under load: whoever tries a refused connection once more is answered."""
    before = {one.pid for one in replicas("")}

    async with load(cluster) as http, grpc_load(cluster) as over_grpc:
        tallies = {"http": http, "grpc": over_grpc}
        await until(lambda: all(sum(one.answers.values()) > 20 for one in tallies.values()))
        done = await asyncio.to_thread(cluster.deploy, max_queue=200)
        assert done.returncode == 0, done.stderr
        await until(lambda: not before & {one.pid for one in replicas("")}, 150)
        await asyncio.to_thread(cluster.until, "RUNNING")

    for name, tally in tallies.items():
        record_property(f"{name}_failed_before_retry", tally.failed)
        record_property(f"{name}_answered", sum(tally.answers.values()))
    assert [tally.failed_again for tally in tallies.values()] == [0, 0], tallies
