"""`mnv4serve serve`: build what is missing, measure if need be, serve until SIGTERM."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from mnv4serve import __version__
from mnv4serve.cli.options import (
    ConfigFile,
    Models,
    StateDir,
    ZooName,
    configure,
    stderr,
    stdout,
    tell,
)
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.tables import arms_table
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import ArtifactMissing
from mnv4serve.host import Host, survey
from mnv4serve.metrics import Metrics
from mnv4serve.serving.assemble import assemble
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.local import ASSEMBLING, Addresses, check_addresses, run, url_host
from mnv4serve.serving.ray_engine import check_setup, serve_on_ray
from mnv4serve.serving.site import Assembled

EXAMPLE = "models/examples/golf_ball.jpg"
LABELS_SHOWN = 12
PUBLISHED = "imagenet1k"
OTHER_ZOOS = (
    f"For a thousand:  mnv4serve pull {PUBLISHED}  and serve --zoo {PUBLISHED};  "
    "for your own:  mnv4serve train --data FOLDER --zoo NAME"
)


def register(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    *,
    engine: Annotated[
        Literal["local", "ray"] | None,
        typer.Option(help="One process, or replicas on Ray Serve.", show_default="local"),
    ] = None,
    config: ConfigFile = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 0.0.0.0 is all.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="HTTP port; 0 takes a free one.", show_default="8000")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port; 0 takes a free one.", show_default="9000")
    ] = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Serve the most accurate answer within each request's budget, over HTTP and gRPC.

    The first start builds the artifacts and measures this machine; later starts take seconds.
    Ctrl-C or SIGTERM lets the work in flight finish. All other settings are keys of the --config
    file, or variables as MNV4SERVE_MAX_QUEUE.
    """
    settings = configure(
        config=config, engine=engine, host=host, port=port, grpc_port=grpc_port, zoo=zoo,
        models=models, state_dir=state_dir,
    )  # fmt: skip
    site = survey(settings)
    (check_setup if settings.engine == "ray" else check_addresses)(settings)
    for found in site.availabilities:
        if not found.available:
            tell(found.reason, title=f"serving without {found.backend}: ", style="yellow")
    _build_missing(site, settings, config)
    if settings.engine == "ray":
        _serve_on_ray(site, settings)
    else:
        _serve(site, settings)


def _build_missing(site: Host, settings: ServiceConfig, config: Path | None) -> None:
    """In a process of its own, so that torch never weighs on the serving one."""
    if not site.missing():
        return
    command = [sys.executable, "-m", "mnv4serve", "build", "--state-dir", str(settings.state_dir)]
    command += ["--models", str(site.catalog.root), "--zoo", site.zoo_name]
    command += ["--config", str(config)] if config else []
    _run_until_stopped(command)
    missing = site.missing()
    if len(missing) == len(site.targets):
        raise ArtifactMissing("no artifact could be built: the lines above say why")
    for target in missing:
        tell(str(target), title="serving without ", style="yellow")


def _run_until_stopped(command: list[str]) -> None:
    """Run a process that does not outlive this one when it is told to stop."""
    with subprocess.Popen(command) as child:  # noqa: S603  # our own interpreter

        def stop(_signum: int, _frame: object) -> None:
            child.terminate()
            raise SystemExit(0)

        previous = signal.signal(signal.SIGTERM, stop)
        try:
            child.wait()
        finally:
            signal.signal(signal.SIGTERM, previous)


def _serve(site: Host, settings: ServiceConfig) -> None:
    metrics = Metrics()
    metrics.describe_build(version=__version__, zoo=site.zoo_name, engine=settings.engine)
    gateway = Gateway(
        config=settings,
        zoo_name=site.zoo_name,
        labels=[label.name for label in site.zoo.labels],
        observe=metrics.observe,
        metrics_text=metrics.text,
    )

    def bring_up() -> Assembled:
        with progress_bar("getting ready") as advance:
            return assemble(site, settings, metrics=metrics, progress=advance)

    def announce(addresses: Addresses) -> None:
        stdout.print(arms_table(gateway.frontier().arms, live=True))
        for line in (*_pool_lines(gateway), *_banner(site, settings, addresses)):
            stdout.print(Text(line), soft_wrap=True)

    run(gateway, assemble=bring_up, announce=announce)
    tell("drained; goodbye")
    end_measuring()


def end_measuring() -> None:
    """End the process here and now where arms are still being loaded or measured.

    That thread is inside a runtime, whose own threads abort the process when Python unloads it.
    """
    if any(thread.name == ASSEMBLING for thread in threading.enumerate()):
        stderr.show_cursor()
        sys.stdout.flush()
        os._exit(0)


def _serve_on_ray(site: Host, settings: ServiceConfig) -> None:
    """The replicas load and measure on their own; what they serve is told by GET /frontier."""

    def announce() -> None:
        addresses = Addresses(settings.host, settings.port, settings.grpc_port)
        for line in _banner(site, settings, addresses):
            stdout.print(Text(line), soft_wrap=True)

    tell("starting Ray and the replicas; a first start measures this machine")
    serve_on_ray(settings.model_copy(update={"models": site.catalog.root}), announce=announce)
    tell("drained; goodbye")


def _pool_lines(gateway: Gateway) -> Iterator[str]:
    for pool in gateway.pools:
        routing = pool.routing
        yield (
            f"pool {routing.device}: {routing.ledger.slots} jobs at a time, "
            f"{len(routing.arms)} arms resident, a queue of at most {routing.ledger.max_queue}"
        )


def _banner(site: Host, settings: ServiceConfig, addresses: Addresses) -> tuple[str, ...]:
    """What to know and where to click, in lines that can be copied."""
    scheme = "https" if settings.tls else "http"
    host = url_host(addresses.host)
    url = f"{scheme}://{host}:{addresses.http_port}"
    labels = [label.name for label in site.zoo.labels]
    named = ", ".join(labels[:LABELS_SHOWN]) + (", ..." if len(labels) > LABELS_SHOWN else "")
    return (
        "",
        f"mnv4serve {__version__} serves {site.zoo_name}: {site.zoo.title}",
        f"This zoo knows {len(labels)} classes: {named}.",
        *(() if site.zoo_name == PUBLISHED else (OTHER_ZOOS,)),
        f"try      curl --data-binary @{EXAMPLE} '{url}/classify?budget_ms=5'",
        f"docs     {url}/docs",
        f"metrics  {url}/metrics"
        if settings.engine == "local"
        else f"metrics  http://{host}:{settings.ray.metrics_port}/metrics",
        f"gRPC     {host}:{addresses.grpc_port}  mnv4serve.v1.Classifier",
    )
