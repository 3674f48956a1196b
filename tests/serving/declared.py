"""A cluster that somebody else started, with a token, and `serve deploy` onto it."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from mnv4serve.serving.cluster import PREFERRED, SERVICER_FUNCTIONS, set_flags
from tests.serving.conftest import QUICK, end_proxies, free_port

RAY = str(Path(sys.executable).with_name("ray"))
SERVE = str(Path(sys.executable).with_name("serve"))
START_S = 120.0
STOP_S = 8.0
POLL_S = 0.2
DRAIN = "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S"
"""As shipped: what an update costs is looked at here."""
CORES = 16
"""As Ray counts them; the machine may have fewer."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The head of a cluster, and the service on it."""

    folder: Path
    environment: Mapping[str, str]
    address: str
    dashboard: str
    port: int
    grpc_port: int
    arguments: Mapping[str, Any]

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def deploy(
        self, *, user_config: Mapping[str, Any] | None = None, **changes: object
    ) -> subprocess.CompletedProcess[str]:
        """`serve deploy` of the service with these changes to its configuration."""
        deployments: list[dict[str, Any]] = [{"name": "ingress"}, {"name": "pool-far"}]
        if user_config is not None:
            deployments = [one | {"user_config": dict(user_config)} for one in deployments]
        application = {
            "name": "mnv4serve",
            "route_prefix": "/",
            "import_path": "mnv4serve.serving.app:build_app",
            "args": dict(self.arguments) | changes,
            "deployments": deployments,
        }
        options = {"port": self.grpc_port, "grpc_servicer_functions": list(SERVICER_FUNCTIONS)}
        document = {
            "proxy_location": "EveryNode",
            "http_options": {"host": "127.0.0.1", "port": self.port},
            "grpc_options": options,
            "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
            "applications": [application],
        }
        file = self.folder / "serve.yaml"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        return self.run(SERVE, "deploy", "--address", self.dashboard, str(file))

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command in the environment of the cluster."""
        environment = {**self.environment, **more}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def status(self) -> Any:  # noqa: ANN401  # Serve's document
        """The application as Serve tells it."""
        url = f"{self.dashboard}/api/serve/applications/"
        token = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        document = httpx.get(url, headers=token, timeout=20).json()
        return document["applications"].get("mnv4serve", {"status": "NOT_THERE", "message": ""})

    def until(self, status: str) -> Any:  # noqa: ANN401  # Serve's document
        """Wait for a status of the application; its details."""
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            found = self.status()
            if found["status"] == status:
                return found
            time.sleep(POLL_S)
        raise AssertionError(f"not {status} but {found['status']}: {found['message']}")


@contextmanager
def node(environment: Mapping[str, str], log: Path, *arguments: str) -> Iterator[None]:
    """A Ray node in the foreground, ended with all it started."""
    command = [RAY, "start", "--block", "--object-store-memory=78643200", *arguments]
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdout=written,
            stderr=written,
        )
    try:
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        end_proxies()


@contextmanager
def declared(folder: Path, arguments: Mapping[str, Any]) -> Iterator[Declared]:
    """A head that asks for a token, with nothing deployed yet."""
    environment = dict(os.environ)
    set_flags(environment, max_body_bytes=200_000)
    environment |= QUICK | {DRAIN: PREFERRED[DRAIN]}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    gcs, dashboard, metrics, http, grpc = (free_port() for _ in range(5))
    found = Declared(
        folder,
        environment,
        f"127.0.0.1:{gcs}",
        f"http://127.0.0.1:{dashboard}",
        http,
        grpc,
        arguments,
    )
    flags = (
        *("--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--include-dashboard=true"),
        *(f"--metrics-export-port={metrics}", f"--num-cpus={CORES}", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--temp-dir={folder / 'ray'}"),
    )
    with node(environment, folder / "head.log", *flags):
        _until_there(found)
        yield found


def _until_there(cluster: Declared) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        try:
            cluster.status()
        except (httpx.HTTPError, KeyError, ValueError):
            time.sleep(POLL_S)
        else:
            return
    raise AssertionError((cluster.folder / "head.log").read_text(encoding="utf-8"))
