"""What one run of a policy came to, and a folder-free file of many of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SIMULATOR, STUBS, MODELS = "simulator", "stubs", "models"
LAYERS = (SIMULATOR, STUBS, MODELS)
NO_FAULT = "none"


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything but the seed: what a policy is tuned for and compared under."""

    table: str
    """Name of the arm table."""
    budgets: str
    arrivals: str
    load: float
    fault: str = NO_FAULT

    @property
    def label(self) -> str:
        fault = "" if self.fault == NO_FAULT else f", {self.fault}"
        return f"{self.table}, {self.budgets} budgets, {self.arrivals}, load {self.load:g}{fault}"


@dataclass(frozen=True, slots=True)
class Result:
    """One policy over one sequence of arrivals; shares are of offered requests."""

    layer: str
    condition: Condition
    seed: int
    policy: str
    settings: str
    """As tuned, for people."""
    offered: int
    effective_accuracy: float
    on_time_share: float
    accuracy_on_time: float
    """Mean over the answers that were on time; 0 where there were none."""
    refused_share: float
    p50_ms: float
    p99_ms: float
    goodput_per_s: float
    false_refusal_share: float = 0.0
    promised: int = 0
    """Requests planned as likely on time, with budgets of twice the fastest arm's p99 or more."""
    promises_kept: int = 0
    blocks: tuple[float, ...] = ()
    """Effective accuracy of consecutive parts of the run."""
    mix: dict[str, float] = field(default_factory=dict)
    """Share of the answers by arm."""
    cpu_us: float = 0.0
    """Processor time a request: of the whole simulation, most of it decisions; 0 elsewhere."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a clairvoyant could have reached at most, over one sequence of arrivals."""

    condition: Condition
    seed: int
    effective_accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted against observed punctuality of arms that were forced at random."""

    layer: str
    name: str
    error: float
    bins: tuple[tuple[float, float, int], ...]
    """Predicted, observed, requests."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One slice of a run through a burst."""

    policy: str
    at_s: float
    offered_per_s: float
    effective_accuracy: float
    on_time_share: float
    mix: dict[str, float]


@dataclass(slots=True)
class Findings:
    """All that the report is made of."""

    made_by: dict[str, Any] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    ablations: list[Result] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    burst: list[Moment] = field(default_factory=list)
    jitter: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was left out and why."""

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def load(path: Path) -> Findings:
    """Findings as `save` wrote them, to render the report again."""
    document = json.loads(path.read_text("utf-8"))
    return Findings(
        made_by=document["made_by"],
        results=[_result(line) for line in document["results"]],
        bounds=[Bound(**line | {"condition": _condition(line)}) for line in document["bounds"]],
        ablations=[_result(line) for line in document["ablations"]],
        reliability=[
            Reliability(**line | {"bins": tuple(map(tuple, line["bins"]))})
            for line in document["reliability"]
        ],
        burst=[Moment(**line) for line in document["burst"]],
        jitter=document["jitter"],
        notes=document["notes"],
    )


def conditions(results: Iterable[Result]) -> list[Condition]:
    """Each condition once, in order of appearance."""
    return list(dict.fromkeys(result.condition for result in results))


def of_policy(
    results: Sequence[Result], condition: Condition, policy: str, *, layer: str = SIMULATOR
) -> list[Result]:
    """The runs of one policy under one condition, by seed."""
    found = [
        r for r in results if r.layer == layer and r.condition == condition and r.policy == policy
    ]
    return sorted(found, key=lambda result: result.seed)


def _condition(line: dict[str, Any]) -> Condition:
    return Condition(**line["condition"])


def _result(line: dict[str, Any]) -> Result:
    return Result(**line | {"condition": _condition(line), "blocks": tuple(line["blocks"])})
