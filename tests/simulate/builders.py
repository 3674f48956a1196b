"""Values that the simulator's tests are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from mnv4serve.domain import Arm, BackendName, Precision, Timing
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request, Run
from mnv4serve.router.policies import Setting
from mnv4serve.router.policy import Bid, Candidate, Order, View
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.hardware import Cluster, Kind
from mnv4serve.simulate.scenario import Scenario

POISSON = Arrivals(Process.POISSON)
PATIENT = parse_budgets("1@100000")
"""Budgets that nothing misses."""


def timing(p50_ms: float, *, spread: float = 0.0) -> Timing:
    return Timing(p50_ms, p50_ms * (1.0 + spread), p50_ms * (1.0 + 2.0 * spread), n=200)


def kind(
    *arms: tuple[float, float],
    name: str = "cpu",
    slots: int = 1,
    spread: float = 0.0,
    **more: Any,  # noqa: ANN401  # any field of Kind
) -> Kind:
    """Arms v0, v1, ... from pairs of service time and accuracy."""
    made = tuple(
        Arm(f"v{place}", BackendName.CPU, Precision.INT8, name, 160, accuracy)
        for place, (_, accuracy) in enumerate(arms)
    )
    timings = {
        arm.id: {1: timing(p50_ms, spread=spread)}
        for arm, (p50_ms, _) in zip(made, arms, strict=True)
    }
    return Kind(name=name, arms=made, timings=timings, slots=slots, **more)


def with_batches(subject: Kind, p50_ms: Mapping[int, float], *, spread: float = 0.0) -> Kind:
    """The same arms, each with these times by batch size."""
    by_batch = {size: timing(ms, spread=spread) for size, ms in p50_ms.items()}
    return replace(subject, timings={arm.id: by_batch for arm in subject.arms})


def scenario(
    *kinds: Kind,
    rate_per_s: float = 500.0,
    requests: int = 1000,
    **more: Any,  # noqa: ANN401  # any field of Scenario
) -> Scenario:
    return Scenario(Cluster.of(*kinds), rate_per_s, requests, **more)


class OneArm:
    """Takes every request on the arm in one place, one after the other."""

    def __init__(self, place: int = 0, *, batch: int = 1) -> None:
        self._place = place
        self._batch = batch

    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del request, view
        return Bid(candidates[self._place], 1.0)

    def order(self, jobs: Sequence[Job], view: View) -> Order:
        return Order(view.arms[self._place], tuple(jobs[: self._batch]))

    def observe_arrival(self, request: Request, *, now_ms: float) -> None: ...

    def observe_run(self, run: Run, spent: Spent, *, now_ms: float) -> None: ...


class Unwilling(OneArm):
    """Takes nothing."""

    @override
    def bid(self, candidates: Sequence[Candidate], request: Request, view: View) -> Bid | None:
        del candidates, request, view
        return None


def first_arm(setting: Setting) -> OneArm:
    del setting
    return OneArm()


def unwilling(setting: Setting) -> Unwilling:
    del setting
    return Unwilling()
