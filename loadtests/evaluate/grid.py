"""Which conditions are compared, and the simulator's scenario for each of them."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from loadtests.asks import ROOT
from loadtests.evaluate.records import NO_FAULT, Condition
from mnv4serve.domain import Picture, Timing
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import PRESETS, Mixture, Range
from mnv4serve.simulate.faults import parse_fault
from mnv4serve.simulate.hardware import FREE, TYPICAL, Cluster, Kind, Loop
from mnv4serve.simulate.scenario import Scenario, rate_at
from mnv4serve.simulate.tables import load_table

TRACES = Path(os.environ.get("LOADTESTS_TRACES", ROOT.parent / "shared/data/traces"))
TRACE_FILES = {
    "azure": TRACES / "AzureLLMInferenceTrace_conv.csv.gz",
    "twitter": TRACES / "twitter_2018_22days_per_second.tbz2",
}
ARRIVALS = {
    "poisson": Arrivals(Process.POISSON),
    "gamma-cv4": Arrivals(Process.GAMMA, cv=4.0),
    "bursts": Arrivals(Process.MMPP),
}
FAULTS = {
    "3x slower for a while": "slow=3@30-60/0",
    "gone and back": "gone@30-60/0",
    "profile half too fast": "profile=0.5",
    "profile half too slow": "profile=1.5",
    "every other arm misprofiled": "skew=1.5",
    "noisy neighbour": "neighbour=2@10-90",
}
BATCHED = "prototype with batches"
"""Load 1 is what it carries without any."""
BATCHES = (1, 2, 4, 8)
IN_PAIRS = "gone and back"
"""A device may only vanish where there is another."""
TUNING_SEED = 1000
"""Seeds from here on are for tuning."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    conditions: tuple[Condition, ...]
    seeds: int
    requests: int
    tuning_seeds: int
    tuning_requests: int
    loads: tuple[float, ...]
    """Over which Model-Switching's table is measured."""


FULL_LOADS = (0.3, 0.6, 0.8, 1.0, 1.3, 2.0)
QUICK_LOADS = (0.5, 1.0, 2.0)


def full(requests: int, seeds: int) -> Plan:
    """The made-up table in full, the shipped zoo's where it matters most, every fault."""
    grid = [
        *_grid("prototype", tuple(PRESETS), _known_arrivals(), FULL_LOADS),
        *_grid("imagenette", ("tight", "mixed"), ("poisson", "gamma-cv4"), FULL_LOADS),
        *_grid(BATCHED, ("mixed", "equal"), ("poisson", "gamma-cv4"), FULL_LOADS),
        *_faulty((0.6, 1.0)),
    ]
    return Plan(tuple(grid), seeds, requests, 1, requests // 2, FULL_LOADS)


def quick(requests: int, seeds: int) -> Plan:
    """A few minutes' worth."""
    grid = _grid("prototype", ("mixed", "equal"), ("poisson", "gamma-cv4"), QUICK_LOADS)
    grid += _grid(BATCHED, ("mixed",), ("poisson",), QUICK_LOADS)
    return Plan((*grid, *_faulty((0.8,))), seeds, requests, 1, requests // 2, QUICK_LOADS)


@dataclass(frozen=True, slots=True)
class Bench:
    """What requests are sent to, and how its clock compares with that of the budgets."""

    kind: Kind
    stretch: float = 1.0
    """Budgets are this much longer than their name says."""
    pictures: tuple[Picture, ...] = (TYPICAL,)
    loop: Loop = FREE


_BENCHES: dict[str, Bench] = {}


def register(name: str, bench: Bench) -> None:
    """Let conditions name an arm table that is not shipped."""
    _BENCHES[name] = bench


def bench_of(name: str) -> Bench:
    """A registered table, or else a shipped one."""
    if name == BATCHED:
        return Bench(_batched(_shipped("prototype")))
    return _BENCHES.get(name) or Bench(_shipped(name))


def _batched(kind: Kind) -> Kind:
    """The same arms where half of a run's time is spent once a batch, as on an accelerator."""
    timings = {
        arm_id: {size: times(by_batch[1], 0.5 + 0.5 * size) for size in BATCHES}
        for arm_id, by_batch in kind.timings.items()
    }
    return replace(kind, timings=timings)


def times(timing: Timing, factor: float) -> Timing:
    """As spread as before, around a median that is longer by a factor."""
    p99_ms = None if timing.p99_ms is None else timing.p99_ms * factor
    return Timing(timing.p50_ms * factor, timing.p90_ms * factor, p99_ms, timing.n)


@cache
def _shipped(name: str) -> Kind:
    return load_table(name)


def scenario(condition: Condition, *, seed: int, requests: int) -> Scenario:
    """What the simulator is asked for."""
    cluster = cluster_of(condition)
    bench = bench_of(condition.table)
    faults = () if condition.fault == NO_FAULT else (parse_fault(FAULTS[condition.fault]),)
    return Scenario(
        cluster,
        rate_at(cluster, condition.load),
        requests,
        seed=seed,
        arrivals=arrivals_of(condition.arrivals),
        budgets=longer(PRESETS[condition.budgets], bench.stretch),
        faults=faults,
        pictures=bench.pictures,
    )


def longer(budgets: Mixture, factor: float) -> Mixture:
    """The same mixture with every budget longer by a factor."""
    return Mixture(
        tuple(Range(r.share, r.low_ms * factor, r.high_ms * factor) for r in budgets.ranges)
    )


def cluster_of(condition: Condition) -> Cluster:
    """One device of the table's kind, or two where one of them is to vanish."""
    bench = bench_of(condition.table)
    return Cluster.of(bench.kind, replicas=1 + (condition.fault == IN_PAIRS), loop=bench.loop)


def arrivals_of(name: str) -> Arrivals:
    """An arrival process by the name it has in results."""
    if name in TRACE_FILES:
        return Arrivals(Process.TRACE, trace=TRACE_FILES[name])
    return ARRIVALS[name]


def without_fault(condition: Condition) -> Condition:
    """What can be tuned for: nobody knows a fault beforehand."""
    return replace(condition, fault=NO_FAULT)


def missing_traces() -> list[str]:
    """Why conditions are left out."""
    return [
        f"arrivals of the {name} trace were left out: there is no {path} (set LOADTESTS_TRACES)"
        for name, path in TRACE_FILES.items()
        if not path.is_file()
    ]


def _known_arrivals() -> tuple[str, ...]:
    return (*ARRIVALS, *(name for name, path in TRACE_FILES.items() if path.is_file()))


def _grid(
    table: str, budgets: Sequence[str], arrivals: Sequence[str], loads: Sequence[float]
) -> list[Condition]:
    return list(itertools.starmap(Condition, itertools.product((table,), budgets, arrivals, loads)))


def _faulty(loads: Sequence[float]) -> list[Condition]:
    return [
        Condition("prototype", "mixed", "poisson", load, fault)
        for fault in FAULTS
        for load in loads
    ]
