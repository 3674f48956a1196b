"""Tables for people, JSON for machines."""

import json
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from loadtests.asks import ROOT

RESULTS = ROOT / "results"
PERCENTILES = (50, 90, 99)
console = Console()


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99; empty where there is nothing to rank."""
    if not values_ms:
        return {}
    ranked = np.percentile(np.asarray(values_ms), PERCENTILES)
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, ranked, strict=True)}


def save(name: str, found: dict[str, Any]) -> Path:
    """Keep a result with the command and the versions that made it."""
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    made_by = {
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "made": stamp,
        "python": platform.python_version(),
        "machine": processor(),
        "versions": {n: version(n) for n in ("mnv4serve", "openvino", "starlette", "uvicorn")},
    }
    path = RESULTS / f"{name}-{stamp}.json"
    path.write_text(json.dumps(made_by | found, indent=1, default=str) + "\n", "utf-8")
    console.print(f"[dim]written to {path.relative_to(ROOT)}[/dim]")
    return path


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.machine()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One table; floats with two decimals, shares as they are."""
    shown = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        shown.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    console.print(shown)


def show_open_loop(title: str, found: dict[str, Any]) -> None:
    """Latency and punctuality by budget, then what answered."""
    rows = [
        (
            f"{line['budget_ms']:g} ms",
            line["requests"],
            f"{line['on_time_share']:.1%}",
            f"{line['within_budget_share']:.1%}",
            *line["latency_ms"].values(),
        )
        for line in found["budgets"]
    ]
    columns = ("budget", "requests", "on time", "seen in time", "p50", "p90", "p99")
    table(f"Open loop: {title} (latency in ms from the scheduled send)", columns, rows)
    lag = found["generator_lag_ms"].get("p99", 0.0)
    console.print("outcomes:", ", ".join(f"{k} {v}" for k, v in found["outcomes"].items()))
    console.print("arms:", ", ".join(f"{k} {v}" for k, v in found["arms"].items()))
    console.print(f"[dim]the generator itself was late by {lag:.2f} ms at p99[/dim]")
