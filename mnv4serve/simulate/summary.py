"""Figures of a run: accuracy, punctuality, refusals, promises and how busy the devices were."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mnv4serve.domain import Outcome
from mnv4serve.simulate.hardware import MS_PER_S
from mnv4serve.simulate.records import Records

BINS = 10
"""Of equal mass, to judge calibration by."""
US_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy in one scenario; shares are of the requests offered unless they say otherwise."""

    policy: str
    effective_accuracy: float
    """Expected share of right answers on time: late, refused and dropped ones count as wrong."""
    on_time_share: float
    mean_accuracy: float | None
    """Of the answers on time; None without any."""
    p50_ms: float | None
    """Latency of the answers, late ones included; None without any."""
    p99_ms: float | None
    goodput_per_s: float
    """Answers on time."""
    refused_share: float
    late_share: float
    expired_share: float
    shed_share: float
    false_miss_share: float
    """Refused or degraded although some arm would really have made it."""
    promise_kept_share: float | None
    """Of those admitted as likely on time, that were; None without any."""
    calibration_error: float | None
    """Mean distance of the on-time probability at admission from what came true, in ten bins."""
    utilisation: float
    """Share of all slot time that was spent on runs."""
    decision_us: float
    """Processor time of the simulation a request, most of it the router's."""


def summarise(records: Records, policy: str) -> Summary:
    """The figures of one run."""
    answered = records.latency_ms[records.is_(Outcome.ON_TIME, Outcome.LATE)]
    on_time = records.on_time
    slots = np.array([kind.slots for kind in records.scenario.cluster.devices])
    return Summary(
        policy=policy,
        effective_accuracy=float(records.value.mean()),
        on_time_share=float(on_time.mean()),
        mean_accuracy=_mean(records.value[on_time]),
        p50_ms=_percentile(answered, 50),
        p99_ms=_percentile(answered, 99),
        goodput_per_s=float(on_time.sum()) * MS_PER_S / records.horizon_ms,
        **_misses(records),
        promise_kept_share=_mean(on_time[records.promise]),
        calibration_error=calibration_error(records),
        utilisation=float(records.busy_ms.sum() / (slots.sum() * records.horizon_ms)),
        decision_us=records.cpu_s * US_PER_S / len(on_time),
    )


def document(summary: Summary) -> dict[str, object]:
    """The figures by name, ready for JSON."""
    return asdict(summary)


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests of like probability, and what came true of it."""

    predicted: float
    observed: float
    n: int


def calibration(
    records: Records, chosen: NDArray[np.bool_] | None = None, *, bins: int = BINS
) -> list[Bin]:
    """On-time probability at admission against outcome, in bins of equal mass, lowest first.

    Over the admitted requests, or those of them that `chosen` selects.
    """
    known = ~np.isnan(records.promised)
    if chosen is not None:
        known &= chosen
    order = np.argsort(records.promised[known], kind="stable")
    predicted, observed = records.promised[known][order], records.on_time[known][order]
    return [
        Bin(float(p.mean()), float(o.mean()), len(p))
        for p, o in zip(
            np.array_split(predicted, bins), np.array_split(observed, bins), strict=True
        )
        if len(p)
    ]


def calibration_error(records: Records, *, bins: int = BINS) -> float | None:
    """Mean distance over the bins, each as heavy as the requests it holds."""
    found = calibration(records, bins=bins)
    n = sum(b.n for b in found)
    return sum(abs(b.predicted - b.observed) * b.n for b in found) / n if n else None


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of a run."""

    start_s: float
    offered_per_s: float
    on_time_share: float
    effective_accuracy: float
    arms: Mapping[str, float]
    """Share of the requests that came in it, by the arm that ran; those that ran only."""


def over_time(records: Records, *, slices: int = 100) -> list[Slice]:
    """The run in equal stretches of time, by when requests came; empty ones are left out."""
    arrivals = records.offered.arrivals_ms
    edges = np.linspace(0.0, arrivals[-1], slices + 1)
    places = np.clip(np.searchsorted(edges, arrivals, side="left") - 1, 0, slices - 1)
    width_s = edges[1] / MS_PER_S
    found = []
    for place in np.unique(places):
        inside = places == place
        ran = records.arm[inside]
        names, counts = np.unique(ran[ran >= 0], return_counts=True)
        found.append(
            Slice(
                start_s=float(edges[place]) / MS_PER_S,
                offered_per_s=float(inside.sum() / width_s),
                on_time_share=float(records.on_time[inside].mean()),
                effective_accuracy=float(records.value[inside].mean()),
                arms={
                    records.arms[name].id: float(count / inside.sum())
                    for name, count in zip(names, counts, strict=True)
                },
            )
        )
    return found


def arm_mix(records: Records) -> dict[str, float]:
    """Share of the requests that each arm ran, largest first."""
    counts = np.bincount(records.arm[records.arm >= 0], minlength=len(records.arms))
    shares = counts / len(records.arm)
    return {records.arms[i].id: float(shares[i]) for i in np.argsort(-shares) if counts[i]}


def _misses(records: Records) -> dict[str, float]:
    ways = {
        "refused_share": Outcome.REFUSED,
        "late_share": Outcome.LATE,
        "expired_share": Outcome.EXPIRED,
        "shed_share": Outcome.SHED,
    }
    shares = {name: float(records.is_(outcome).mean()) for name, outcome in ways.items()}
    return {**shares, "false_miss_share": float(records.avoidable.mean())}


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _percentile(values: NDArray[np.float64], share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None
