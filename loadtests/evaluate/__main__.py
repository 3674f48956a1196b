"""Compares routing policies; writes a report and its figures to results/.

make evaluate                      everything: hours of simulation, 30 minutes in real time
make evaluate ARGS=--quick         the same in a few minutes, with fewer conditions
make evaluate ARGS="--layers simulator --jobs 2"
make evaluate ARGS="--render results/evaluation.json"     the report again from its figures
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from loadtests.evaluate import simulated
from loadtests.evaluate.ablations import REMOVED
from loadtests.evaluate.additions import ADDED
from loadtests.evaluate.contenders import OURS, Contender
from loadtests.evaluate.document import render
from loadtests.evaluate.grid import BATCHED, Plan, full, missing_traces, quick
from loadtests.evaluate.in_time import Pace, model_turns, stub_turns
from loadtests.evaluate.records import (
    LAYERS,
    MODELS,
    SIMULATOR,
    STUBS,
    Condition,
    Findings,
    Moment,
    load,
)
from loadtests.evaluate.tuning import tuned
from loadtests.flags import command_line
from loadtests.report import RESULTS, console, processor

REPORT = "evaluation"
REQUESTS, QUICK_REQUESTS = 6000, 1500
FEWEST_REQUESTS = 2 * simulated.BLOCKS
CALIBRATION_LOADS = (0.15, 0.3)
BURST = Condition("prototype", "mixed", "bursts", 0.8)
QUICK_PACE = Pace(seconds=4.0, loads=(0.5, 1.0), arrivals=("poisson",), seeds=1)
STUB_PACE = Pace(seconds=12.0, loads=(0.5, 1.0, 1.5), arrivals=("poisson", "gamma-cv4"), seeds=3)
MODEL_PACE = Pace(seconds=10.0, loads=(0.3, 0.6, 1.0), arrivals=("poisson", "gamma-cv4"), seeds=3)


def main() -> int:
    options = _parser().parse_args()
    if options.render:
        _write(_read(options.render), options.out)
        return 0
    requests = options.requests or (QUICK_REQUESTS if options.quick else REQUESTS)
    if requests < FEWEST_REQUESTS or min(options.seeds, options.jobs) < 1:
        console.print(f"--requests is {FEWEST_REQUESTS} or more, --seeds and --jobs 1 or more")
        return 2
    plan = (quick if options.quick else full)(requests, options.seeds)
    findings = Findings(made_by=_made_by(), notes=missing_traces())
    if SIMULATOR in options.layers:
        _simulate(findings, plan, jobs=options.jobs, bounds=options.bounds)
        _write(findings, options.out)
    if STUBS in options.layers:
        pace = QUICK_PACE if options.quick else STUB_PACE
        _follow(stub_turns(findings, plan, pace), "stub devices")
    if MODELS in options.layers:
        pace = QUICK_PACE if options.quick else MODEL_PACE
        _follow(model_turns(findings, plan, pace), "real models")
    _write(findings, options.out)
    return 0


def _simulate(findings: Findings, plan: Plan, *, jobs: int, bounds: bool) -> None:
    """All conditions over several processes, and what the report shows beside them."""
    with ProcessPoolExecutor(jobs) as pool, _bar() as bar:
        removed = _for_ablations(plan)
        compared = [
            pool.submit(simulated.compare, condition, plan, bounds=bounds)
            for condition in plan.conditions
        ]
        ablated = [pool.submit(simulated.ablate, c, plan, (*REMOVED, *ADDED)) for c in removed]
        curves = [
            pool.submit(simulated.reliability, c, requests=plan.requests)
            for c in (Condition("prototype", "mixed", "poisson", x) for x in CALIBRATION_LOADS)
        ]
        burst = pool.submit(_burst, plan)
        waiting: list[Future[Any]] = [*compared, *ablated, *curves, burst]
        task = bar.add_task("simulating", total=len(waiting))
        for _ in as_completed(waiting):
            bar.advance(task)
    for found in (future.result() for future in compared):
        findings.results += found.results
        findings.bounds += found.bounds
    findings.ablations = [line for future in ablated for line in future.result()]
    findings.reliability += [line for future in curves for line in future.result()]
    findings.burst = burst.result()


def _for_ablations(plan: Plan) -> list[Condition]:
    """Where all features have something to do."""
    return [
        condition
        for condition in plan.conditions
        if condition.table in ("prototype", BATCHED)
        and condition.budgets in ("mixed", "equal")
        and condition.arrivals in ("poisson", "gamma-cv4")
    ]


def _burst(plan: Plan) -> list[Moment]:
    rivals = tuned(BURST, plan, only=("slackfit", "ramsis", "model-switching"))
    contenders = [Contender(OURS), *rivals.values()]
    return simulated.through_burst(BURST, contenders, requests=plan.requests)


def _follow(turns: Iterator[str], name: str) -> None:
    """Show what runs; how many turns there are is not known beforehand."""
    with _bar() as bar:
        task = bar.add_task(name, total=None)
        for turn in turns:
            bar.update(task, description=turn, advance=1)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _write(findings: Findings, stem: Path) -> None:
    findings.save(stem.with_suffix(".json"))
    page = stem.with_suffix(".html")
    page.write_text(render(findings), "utf-8")
    console.print(f"written to {page} and {stem.with_suffix('.json').name}")


def _read(path: Path) -> Findings:
    try:
        return load(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.print(f"{path} holds no figures of an evaluation: {error}")
        sys.exit(1)


def _made_by() -> dict[str, Any]:
    return {
        "command": " ".join(["python -m loadtests.evaluate", *sys.argv[1:]]),
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "machine": processor(),
    }


def _parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.evaluate", __doc__)
    flags.add_argument("--quick", action="store_true", help="few conditions, short runs")
    flags.add_argument(
        "--layers",
        nargs="+",
        choices=LAYERS,
        default=list(LAYERS),
        help="what stands for the devices; all three",
    )
    flags.add_argument(
        "--requests", type=int, help=f"of one simulated run; {REQUESTS}, or {QUICK_REQUESTS}"
    )
    flags.add_argument("--seeds", type=int, default=3, help="a condition; default %(default)s")
    flags.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    flags.add_argument(
        "--no-bounds", dest="bounds", action="store_false", help="skip the clairvoyant bound"
    )
    flags.add_argument("--out", type=Path, default=RESULTS / REPORT, help="without a suffix")
    flags.add_argument("--render", type=Path, help="figures to make the report of, running nothing")
    return flags


if __name__ == "__main__":
    sys.exit(main())
