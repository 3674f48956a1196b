"""What the requests came to: by budget, by kind of device, against the simulated device's model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from loadtests.mixed_hardware.asking import Shot

KINDS = ("litert", "cpu", "onnx", "cuda", "edgetpu")
DEVICE_LIMIT = 0.15
"""How far a simulated device may be from its model."""
PREDICTION_LIMIT = 0.10
"""How far nine of ten predictions for it may be off."""


@dataclass(frozen=True, slots=True)
class Line:
    """The answers to one budget under one condition."""

    budget_ms: float
    answered: int
    offered: int
    on_time_share: float
    arms: Mapping[str, int]
    kinds: Mapping[str, int]
    reasons: Mapping[str, int]
    accuracy: float
    """Mean certified accuracy of what answered."""
    predicted_ms: float
    total_ms: float
    error_p90: float
    simulated: int
    """Answers of simulated devices."""


@dataclass(frozen=True, slots=True)
class Check:
    """A simulated arm beside the model that it is to keep."""

    arm: str
    model_ms: float
    upload_ms: float
    staying_ms: float
    """Median service time, the arm's weights being there."""
    switching_ms: float
    """The same where another arm ran before."""
    device_error: float
    """Of the worse of both, as a share of what the model says."""
    service_p90: float
    """Error of nine of ten: the service against the model."""
    errors: tuple[float, ...]
    """Of the router's predictions of the whole latency, one an answer."""

    @property
    def total_p90(self) -> float:
        return _p90(self.errors)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a kind of device wins, or why it does not."""

    kind: str
    simulated: bool
    wins: str
    """Empty where it wins nowhere."""
    why_not: str


def lines(shots: Sequence[Shot]) -> list[Line]:
    """One a budget, in order."""
    budgets = sorted({shot.budget_ms for shot in shots})
    return [_line(budget, [s for s in shots if s.budget_ms == budget]) for budget in budgets]


def _line(budget_ms: float, shots: Sequence[Shot]) -> Line:
    ran = [shot for shot in shots if shot.arm]
    return Line(
        budget_ms=budget_ms,
        answered=len(ran),
        offered=len(shots),
        on_time_share=sum(shot.outcome == "on_time" for shot in shots) / len(shots),
        arms=dict(Counter(shot.arm for shot in ran).most_common()),
        kinds=dict(Counter(shot.backend for shot in ran).most_common()),
        reasons=dict(Counter(shot.reason for shot in ran).most_common()),
        accuracy=sum(shot.accuracy for shot in ran) / max(1, len(ran)),
        predicted_ms=_median([shot.predicted_ms for shot in ran]),
        total_ms=_median([shot.total_ms for shot in ran]),
        error_p90=_p90([shot.error for shot in ran]),
        simulated=sum(shot.simulated for shot in ran),
    )


def check(
    arm: str, model: tuple[float, float], *, staying: Sequence[Shot], switching: Sequence[Shot]
) -> Check:
    """An arm's own runs, in a row and after others'; `model`: service and upload."""
    model_ms, upload_ms = model
    stays_ms = [shot.service_ms for shot in staying]
    switches_ms = [shot.service_ms for shot in switching]
    errors = [abs(ms / model_ms - 1.0) for ms in stays_ms]
    errors += [abs(ms / (model_ms + upload_ms) - 1.0) for ms in switches_ms]
    stayed_ms, switched_ms = median(stays_ms), median(switches_ms)
    off = (stayed_ms / model_ms - 1.0, switched_ms / (model_ms + upload_ms) - 1.0)
    return Check(
        arm=arm,
        model_ms=model_ms,
        upload_ms=upload_ms,
        staying_ms=stayed_ms,
        switching_ms=switched_ms,
        device_error=max(abs(share) for share in off),
        service_p90=_p90(errors),
        errors=tuple(shot.error for shot in (*staying, *switching)),
    )


def all_p90(checks: Sequence[Check]) -> float:
    """What nine of ten predictions for the simulated device were off by at most."""
    return _p90([error for one in checks for error in one.errors])


def standings(
    by_condition: Mapping[str, Sequence[Shot]],
    arms: Sequence[Mapping[str, Any]],
    missing: Mapping[str, str],
) -> list[Standing]:
    """Every kind of device; `arms` as the live frontier has them, `missing` with reasons."""
    return [_standing(kind, by_condition, arms, missing) for kind in KINDS]


def _standing(
    kind: str,
    by_condition: Mapping[str, Sequence[Shot]],
    arms: Sequence[Mapping[str, Any]],
    missing: Mapping[str, str],
) -> Standing:
    own = [arm for arm in arms if arm["backend"] == kind]
    simulated = any(arm.get("simulated") for arm in own)
    found = (
        (name, [s for s in shots if s.backend == kind], len(shots))
        for name, shots in by_condition.items()
    )
    wins = "; ".join(_won(name, own_shots, asked) for name, own_shots, asked in found if own_shots)
    if wins:
        return Standing(kind, simulated, wins, "")
    return Standing(kind, simulated, "", missing.get(kind, "") or _beaten(own, arms))


def _won(condition: str, shots: Sequence[Shot], asked: int) -> str:
    budgets = [shot.budget_ms for shot in shots]
    return f"{condition}: {len(shots)} of {asked}, at {min(budgets):g} to {max(budgets):g} ms"


def _beaten(own: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> str:
    """Which arm stands in the way of the kind's most accurate one that is loaded."""
    loaded = [arm for arm in own if arm["resident"]]
    if not loaded:
        return _not_loaded(own, arms)
    best = max(loaded, key=lambda arm: (arm["accuracy"] or 0.0, -arm["expected_ms"]))
    rivals = [
        arm
        for arm in arms
        if arm["resident"]
        and (arm["accuracy"] or 0.0) >= (best["accuracy"] or 0.0)
        and arm["expected_ms"] < best["expected_ms"]
    ]
    if not rivals:
        return f"{best['arm']} is on the frontier, at no budget tried was it the best"
    rival = min(rivals, key=lambda arm: arm["expected_ms"])
    return (
        f"its best, {_told(best, 'expected_ms')}, is beaten by {_told(rival, 'expected_ms')}, "
        "which is no less accurate and sooner"
    )


def _not_loaded(own: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]]) -> str:
    if not own:
        return "it has no arm here"
    best = max(own, key=lambda arm: (arm["accuracy"] or 0.0, -arm["p50_ms"]))
    rivals = [
        arm
        for arm in arms
        if (arm["accuracy"] or 0.0) >= (best["accuracy"] or 0.0) and arm["p50_ms"] < best["p50_ms"]
    ]
    rival = min(rivals, key=lambda arm: arm["p50_ms"], default=None)
    beside = f", beside {_told(rival, 'p50_ms')}" if rival else ""
    return f"none of its arms is kept loaded; its best is {_told(best, 'p50_ms')}{beside}"


def _told(arm: Mapping[str, Any], key: str) -> str:
    remark = " (simulated)" if arm.get("simulated") else ""
    return f"{arm['arm']}{remark} ({arm['accuracy'] or 0.0:.4f} in {arm[key]:.2f} ms)"


def _median(values: Sequence[float]) -> float:
    return float(median(values)) if values else 0.0


def _p90(values: Sequence[float]) -> float:
    return float(np.percentile(values, 90)) if values else 0.0
