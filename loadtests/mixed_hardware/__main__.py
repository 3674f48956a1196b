"""Shows which arm of mixed hardware answers which budget, and why.

Starts the service as a configuration says, asks with budgets from 2 to 200 ms, one at a time, under
load and pinned to each kind of device, holds the simulated device against its model, and writes a
page to results/. Numbers of simulated devices are marked wherever they stand.

    python -m loadtests.mixed_hardware --config deployments/mixed.yaml --loads 0.7 1.5
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress

from loadtests import report
from loadtests.asks import ROOT, Ask, photo_of_size, photos
from loadtests.flags import add_photos, command_line, count
from loadtests.mixed_hardware import findings, page, terminal
from loadtests.mixed_hardware.asking import Shot, one_by_one, under_load
from loadtests.servers import Server, our_server
from mnv4serve.backends import is_simulated, litert_file
from mnv4serve.backends.edgetpu_latency import Work, predicted_ms, upload_ms
from mnv4serve.backends.edgetpu_simulated import link_of
from mnv4serve.config import ServiceConfig, load_config
from mnv4serve.host import survey

CONFIG = ROOT / "deployments" / "mixed.yaml"
BUDGETS_MS = (2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 35.0, 60.0, 100.0, 200.0)
LONG_MS = 1000.0
"""A budget that nothing misses, to hold single arms against their predictions."""
MS_PER_S = 1000.0
ALONE = "one at a time"
STAYING = 26
"""Runs of an arm in a row; the first one brings its weights."""
SWITCHING = 12
"""Runs of an arm, each after another arm's."""


def main() -> None:
    options = _flags().parse_args()
    config = load_config(file=options.config, flags={"state_dir": options.state_dir})
    image = photo_of_size(photos(options.photos))
    flags = ["--config", str(options.config), "--state-dir", str(config.state_dir)]
    with our_server(flags=flags) as server, Progress(console=report.console) as progress:
        conditions = _conditions(server, image, options, progress)
        arms = json.loads(server.get("/frontier"))["arms"]
        checks = _checks(server, image, arms, config=config, progress=progress)
    missing = _missing(options.config)
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    photo = f"photo of {len(image) / 1000:.0f} kB"
    found = page.Found(
        made=f"{report.processor()}, {time.strftime('%Y-%m-%d')}, {photo}, load average {busy}",
        conditions=conditions,
        arms=arms,
        checks=checks,
        standings=findings.standings(_unpinned(conditions), arms, missing),
    )
    _keep(found)
    terminal.show(found, report.console)
    if not page.holds(found):
        raise SystemExit(
            "the simulated device missed its model or the router's prediction: it computes on this "
            "processor, so look at the load average and run this again on an idle machine"
        )


def _flags() -> argparse.ArgumentParser:
    flags = command_line("loadtests.mixed_hardware", __doc__)
    flags.add_argument("--config", type=Path, default=CONFIG, help="deployments/mixed.yaml")
    flags.add_argument("--state-dir", type=Path, help="artifacts and profiles; the usual folder")
    add_photos(flags)
    flags.add_argument("--requests", type=count, default=40, help="a budget and condition")
    flags.add_argument(
        "--loads",
        type=float,
        nargs="*",
        default=[0.7, 1.5],
        help="offered load, in multiples of what one caller who waits for answers gets",
    )
    return flags


def _conditions(
    server: Server, image: bytes, options: argparse.Namespace, progress: Progress
) -> dict[str, list[Shot]]:
    """By condition; those with a pin say so in their name."""
    live = json.loads(server.get("/frontier"))["arms"]
    kinds = [k for k in findings.KINDS if any(a["backend"] == k and a["resident"] for a in live)]
    task = progress.add_task("asking", total=1 + len(options.loads) + len(kinds))
    asks = [Ask(budget) for budget in BUDGETS_MS for _ in range(options.requests)]
    conditions = {ALONE: one_by_one(server.port, image, asks)}
    progress.advance(task)
    alone_ms = median(shot.total_ms for shot in conditions[ALONE] if shot.total_ms)
    for load in options.loads:
        rate = load * MS_PER_S / alone_ms
        name = f"load {load:g} ({rate:.0f} requests/s)"
        conditions[name] = under_load(
            server.port, image, BUDGETS_MS, rate=rate, requests=len(BUDGETS_MS) * options.requests
        )
        progress.advance(task)
    for kind in kinds:
        pinned = [
            Ask(ask.budget_ms, backend=kind) for ask in asks[:: max(1, options.requests // 10)]
        ]
        conditions[f"pinned to {kind}"] = one_by_one(server.port, image, pinned)
        progress.advance(task)
    return conditions


def _checks(
    server: Server,
    image: bytes,
    arms: Sequence[Mapping[str, Any]],
    *,
    config: ServiceConfig,
    progress: Progress,
) -> list[findings.Check]:
    """Every simulated arm that is loaded, several times in a row and then in turn."""
    models = _models(config)
    loaded = [arm for arm in arms if arm.get("simulated") and arm["resident"]]
    task = progress.add_task("holding the simulated device against its model", total=2)
    pins = [Ask(LONG_MS, variant=arm["variant"], backend=arm["backend"]) for arm in loaded]
    staying = one_by_one(server.port, image, [pin for pin in pins for _ in range(STAYING)])
    progress.advance(task)
    switching = one_by_one(server.port, image, pins * SWITCHING) if len(pins) > 1 else []
    progress.advance(task)
    return [
        findings.check(
            arm["arm"],
            models[arm["arm"]],
            staying=staying[place * STAYING + 1 : (place + 1) * STAYING],
            switching=switching[place :: len(pins)] or staying[place * STAYING :][:1],
        )
        for place, arm in enumerate(loaded)
    ]


def _models(config: ServiceConfig) -> dict[str, tuple[float, float]]:
    """What the calibrated model says of each simulated arm: a picture, and bringing its weights."""
    host, found = survey(config), {}
    for pool in config.pools:
        if not is_simulated(pool.device):
            continue
        link = link_of(pool.device)
        for candidate in host.loadable(pool):
            work = Work.of(litert_file.read(candidate.artifact.path.read_bytes()))
            found[candidate.arm.id] = (predicted_ms(work, link), upload_ms(work, link))
    return found


def _missing(config: Path) -> dict[str, str]:
    """Why backends of the configuration are not there, in `doctor`'s words."""
    command = [sys.executable, "-m", "mnv4serve", "doctor", "--json", "--config", str(config)]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {one["backend"]: one["why_not"] for one in json.loads(told)["backends"]}


def _unpinned(conditions: Mapping[str, Sequence[Shot]]) -> dict[str, Sequence[Shot]]:
    return {name: shots for name, shots in conditions.items() if not shots[0].pin}


def _keep(found: page.Found) -> None:
    path = report.save(
        "mixed-hardware",
        {
            "conditions": {
                name: [asdict(line) for line in findings.lines(shots)]
                for name, shots in found.conditions.items()
            },
            "standings": [asdict(one) for one in found.standings],
            "checks": [asdict(one) | {"simulated": True} for one in found.checks],
            "arms": list(found.arms),
        },
    )
    path.with_suffix(".html").write_text(page.render(found), "utf-8")
    path.with_suffix(".svg").write_text(page.plot(found), "utf-8")
    report.console.print(f"[dim]page: {path.with_suffix('.html').relative_to(ROOT)}[/dim]")


if __name__ == "__main__":
    main()
