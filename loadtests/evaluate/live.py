"""Drives a real gateway open loop in this process and counts as the simulator counts.

The router, its pools, their threads and the event loop are those of the service; only the
transport is missing. A request counts as received when it was due, so that a late generator costs
the policy what a late network would.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.evaluate.contenders import Contender
from loadtests.evaluate.records import Condition, Reliability, Result
from loadtests.evaluate.statistics import block_means, calibration, calibration_error
from mnv4serve.domain import Call, OnMiss, Picture, Reason, Terms, Transport
from mnv4serve.errors import ServeError
from mnv4serve.router import planner
from mnv4serve.router.planner import Rules
from mnv4serve.router.policies.ramsis import Ramsis
from mnv4serve.router.policy import Candidate, Policy
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.slot import MS_PER_S, now_ms
from mnv4serve.simulate.scenario import Offered, Scenario

BLOCKS = 10
LEAD_MS = 50.0
"""From the start to the first request."""


@dataclass(frozen=True, slots=True)
class Shot:
    """How one request ended."""

    budget_ms: float
    latency_ms: float | None = None
    """From when it was due; None without an answer."""
    arm: str = ""
    accuracy: float = 0.0
    promised: bool = False
    chance: float = 0.0
    """Of being on time, as planned at dispatch."""

    @property
    def on_time(self) -> bool:
        return self.latency_ms is not None and self.latency_ms <= self.budget_ms


def prepare(policy: Policy, routing: planner.Pool, picture: Picture) -> None:
    """What RAMSIS does offline must not happen while requests wait."""
    if not isinstance(policy, Ramsis):
        return
    estimates = [(arm, routing.predictor.expect(arm, picture, wait_ms=0.0)) for arm in routing.arms]
    candidates = [Candidate(arm, estimate, 1.0) for arm, estimate in estimates]
    policy.prepare(candidates, routing.view(0.0, Rules()))


async def fire(gateway: Gateway, offered: Offered, images: Sequence[bytes]) -> list[Shot]:
    """Send every request when it is due, whatever became of those before."""
    start_ms = now_ms() + LEAD_MS
    tasks = []
    asked = zip(offered.arrivals_ms.tolist(), offered.budgets_ms.tolist(), images, strict=True)
    for number, (arrival_ms, budget_ms, image) in enumerate(asked):
        due_ms = start_ms + arrival_ms
        if (ahead_ms := due_ms - now_ms()) > 0.0:
            await asyncio.sleep(ahead_ms / MS_PER_S)
        terms = Terms(budget_ms=budget_ms, on_miss=OnMiss.REFUSE)
        call = Call(image, terms, Transport.LOCAL, f"request-{number}", due_ms)
        tasks.append(asyncio.create_task(_shoot(gateway, call)))
    return await asyncio.gather(*tasks)


async def _shoot(gateway: Gateway, call: Call) -> Shot:
    budget_ms = call.terms.budget_ms
    try:
        reply = await gateway.classify(call)
    except ServeError:
        return Shot(budget_ms)
    ended_ms = now_ms()
    gateway.replied(reply, Transport.LOCAL, ended_ms)
    plan = reply.plan
    return Shot(
        budget_ms,
        latency_ms=ended_ms - call.received_ms,
        arm=plan.arm.id,
        accuracy=plan.arm.accuracy or 0.0,
        promised=plan.reason is not Reason.DEGRADED,
        chance=plan.on_time_probability,
    )


def result(
    shots: Sequence[Shot],
    contender: Contender,
    condition: Condition,
    *,
    layer: str,
    asked: Scenario,
    ample_budget_ms: float,
) -> Result:
    """The figures of one run."""
    on_time = [shot for shot in shots if shot.on_time]
    latencies = [shot.latency_ms for shot in shots if shot.latency_ms is not None]
    ample = [shot for shot in shots if shot.promised and shot.budget_ms >= ample_budget_ms]
    value = [shot.accuracy if shot.on_time else 0.0 for shot in shots]
    return Result(
        layer=layer,
        condition=condition,
        seed=asked.seed,
        policy=contender.label,
        settings=contender.described,
        offered=len(shots),
        effective_accuracy=float(np.mean(value)),
        on_time_share=len(on_time) / len(shots),
        accuracy_on_time=float(np.mean([s.accuracy for s in on_time])) if on_time else 0.0,
        refused_share=1.0 - len(latencies) / len(shots),
        p50_ms=_percentile(latencies, 50),
        p99_ms=_percentile(latencies, 99),
        goodput_per_s=asked.rate_per_s * len(on_time) / len(shots),
        promised=len(ample),
        promises_kept=sum(shot.on_time for shot in ample),
        blocks=tuple(block_means(value, BLOCKS)),
        mix=_shares(shot.arm for shot in shots if shot.arm),
    )


def reliability(shots: Sequence[Shot], *, layer: str, name: str) -> Reliability:
    """Predicted chances at dispatch against what happened, of all that ran."""
    ran = [shot for shot in shots if shot.latency_ms is not None]
    bins = calibration([shot.chance for shot in ran], [shot.on_time for shot in ran])
    lines = tuple((line.predicted, line.observed, line.n) for line in bins)
    return Reliability(layer, f"at dispatch, {name}", calibration_error(bins), lines)


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else 0.0


def _shares(arms: Iterable[str]) -> dict[str, float]:
    counts = Counter(arms)
    total = sum(counts.values())
    return {arm: count / total for arm, count in counts.most_common()}
