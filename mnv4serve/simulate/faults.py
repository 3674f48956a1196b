"""What goes wrong in a run: devices that slow down, vanish or were profiled wrongly."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mnv4serve.domain import Timing
from mnv4serve.errors import BadConfig

START_PERCENT, END_PERCENT = 30.0, 60.0
BURST_MS, QUIET_MS = 40.0, 160.0
"""Mean lengths of a noisy neighbour's bursts and of the time between them."""
_SPEC = re.compile(
    r"(?P<kind>[a-z]+)(?:=(?P<factor>\d*\.?\d+))?"
    r"(?:@(?P<start>\d*\.?\d+)-(?P<end>\d*\.?\d+))?(?:/(?P<device>\d+))?"
)


class FaultKind(StrEnum):
    """What can go wrong."""

    SLOW = "slow"
    """Every run takes `factor` times as long."""
    GONE = "gone"
    """The device is taken out; what it held is planned again elsewhere. Later it is back."""
    PROFILE = "profile"
    """The router is given `factor` times the true service times."""
    SKEW = "skew"
    """As `profile`, for every other arm; the others are as wrong the other way."""
    NEIGHBOUR = "neighbour"
    """Bursts during which every run takes `factor` times as long."""


_DEFAULTS = {
    FaultKind.SLOW: 3.0,
    FaultKind.GONE: 1.0,
    FaultKind.PROFILE: 0.5,
    FaultKind.SKEW: 1.5,
    FaultKind.NEIGHBOUR: 2.0,
}
_SLOWING = (FaultKind.SLOW, FaultKind.NEIGHBOUR)
_ALWAYS = (FaultKind.PROFILE, FaultKind.SKEW)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, for the part of the run between two shares of its length."""

    kind: FaultKind
    factor: float
    start: float = START_PERCENT / 100.0
    end: float = END_PERCENT / 100.0
    device: int | None = None
    """In the order of the cluster; None for all of them."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.factor <= 100.0:  # noqa: PLR2004  # said in the sentence
            raise BadConfig(f"fault {self.kind}: factor {self.factor:g} is not in 0.01 to 100")
        if self.kind in _SLOWING and self.factor < 1.0:
            raise BadConfig(f"fault {self.kind}: factor {self.factor:g} would make runs faster")
        if not 0.0 <= self.start < self.end <= 1.0:
            raise BadConfig(f"fault {self.kind}: it must start before it ends, within 0 to 100 %")

    def hits(self, device: int) -> bool:
        return self.device in (None, device)


def parse_fault(text: str) -> Fault:
    """`kind[=factor][@start-end][/device]` with percent of the run; raises BadConfig."""
    found = _SPEC.fullmatch(text)
    if found is None or found["kind"] not in set(FaultKind):
        kinds = ", ".join(FaultKind)
        raise BadConfig(
            f"fault {text!r}: say KIND[=FACTOR][@START-END][/DEVICE] with start and end in percent "
            f"of the run and a kind among {kinds}, for example slow=3@30-60/0"
        )
    kind = FaultKind(found["kind"])
    return Fault(
        kind,
        factor=float(found["factor"] or _DEFAULTS[kind]),
        start=float(found["start"] or START_PERCENT) / 100.0,
        end=float(found["end"] or END_PERCENT) / 100.0,
        device=int(found["device"]) if found["device"] else None,
    )


@dataclass(frozen=True, slots=True)
class Timeline:
    """A factor on run times that changes at given times."""

    changes_ms: tuple[float, ...]
    factors: tuple[float, ...]
    """One more than changes: the first holds until the first change."""

    def at(self, now_ms: float) -> float:
        return self.factors[bisect_right(self.changes_ms, now_ms)]


def slowdown_of(
    faults: Sequence[Fault], device: int, *, horizon_ms: float, rng: np.random.Generator
) -> Timeline | None:
    """How much longer runs on a device take over time; None where nothing slows it."""
    spans = [
        (start, end, fault.factor)
        for fault in faults
        if fault.hits(device)
        for start, end in _spans(fault, horizon_ms, rng)
    ]
    if not spans:
        return None
    changes = sorted({time for start, end, _ in spans for time in (start, end)})
    factors = [1.0]
    for time in changes:
        product = 1.0
        for start, end, factor in spans:
            product *= factor if start <= time < end else 1.0
        factors.append(product)
    return Timeline(tuple(changes), tuple(factors))


def outages_of(
    faults: Sequence[Fault], device: int, *, horizon_ms: float
) -> list[tuple[float, float]]:
    """When a device is gone and when it is back."""
    return [
        (fault.start * horizon_ms, fault.end * horizon_ms)
        for fault in faults
        if fault.kind is FaultKind.GONE and fault.hits(device)
    ]


def misprofiled(timing: Timing, faults: Sequence[Fault], device: int, column: int) -> Timing:
    """What the router is told of an arm's timing."""
    factor = 1.0
    for fault in faults:
        if fault.hits(device) and fault.kind in _ALWAYS:
            inverse = fault.kind is FaultKind.SKEW and column % 2
            factor *= 1.0 / fault.factor if inverse else fault.factor
    p99_ms = None if timing.p99_ms is None else timing.p99_ms * factor
    return Timing(timing.p50_ms * factor, timing.p90_ms * factor, p99_ms, timing.n)


def _spans(fault: Fault, horizon_ms: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    start, end = fault.start * horizon_ms, fault.end * horizon_ms
    if fault.kind is FaultKind.SLOW:
        return [(start, end)]
    if fault.kind is not FaultKind.NEIGHBOUR:
        return []
    n = int((end - start) / (BURST_MS + QUIET_MS)) + 1
    quiet, burst = rng.exponential(QUIET_MS, n), rng.exponential(BURST_MS, n)
    starts = start + np.cumsum(quiet) + np.concatenate([[0.0], np.cumsum(burst)[:-1]])
    return [(s, min(s + b, end)) for s, b in zip(starts, burst, strict=True) if s < end]
