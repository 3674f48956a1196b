"""The simulator's layer: every policy on the same requests, and what foresight could have done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.evaluate.additions import SIMULATIONS
from loadtests.evaluate.contenders import OURS, Contender
from loadtests.evaluate.grid import Plan, scenario
from loadtests.evaluate.records import SIMULATOR, Bound, Condition, Moment, Reliability, Result
from loadtests.evaluate.statistics import block_means, calibration, calibration_error
from loadtests.evaluate.tuning import fixed_arms, tuned
from mnv4serve.errors import SetupError
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.hardware import Kind
from mnv4serve.simulate.oracle import upper_bound
from mnv4serve.simulate.records import Records
from mnv4serve.simulate.scenario import Scenario
from mnv4serve.simulate.summary import arm_mix, over_time, summarise

BLOCKS = 10
"""Parts of a run that differences are paired over."""
AMPLE = 2.0
"""Times the fastest arm's p99: from there on a promise has to be kept."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One condition, done."""

    results: list[Result]
    bounds: list[Bound]


def compare(condition: Condition, plan: Plan, *, bounds: bool = True) -> Compared:
    """Every policy under one condition, on the same requests seed by seed."""
    contenders = [Contender(OURS), *fixed_arms(condition), *tuned(condition, plan).values()]
    results, found = [], []
    for seed in range(plan.seeds):
        asked = scenario(condition, seed=seed, requests=plan.requests)
        results += [run(contender, condition, asked) for contender in contenders]
        if bounds:
            found += _bound(condition, asked)
    return Compared(results, found)


def ablate(condition: Condition, plan: Plan, changed: Sequence[str]) -> list[Result]:
    """Our policy as it is, and with each feature removed or added, on the same requests."""
    contenders = [Contender(OURS), *map(Contender, changed)]
    return [
        run(contender, condition, scenario(condition, seed=seed, requests=plan.requests))
        for seed in range(plan.seeds)
        for contender in contenders
    ]


def run(contender: Contender, condition: Condition, asked: Scenario) -> Result:
    """One policy on one sequence of requests."""
    records = simulate(asked, contender.make, simulation=SIMULATIONS.get(contender.name))
    summary = summarise(records, contender.label)
    ample = records.promise & (records.offered.budgets_ms >= ample_budget_ms(asked))
    return Result(
        layer=SIMULATOR,
        condition=condition,
        seed=asked.seed,
        policy=contender.label,
        settings=contender.described,
        offered=asked.requests,
        effective_accuracy=summary.effective_accuracy,
        on_time_share=summary.on_time_share,
        accuracy_on_time=summary.mean_accuracy or 0.0,
        refused_share=summary.refused_share + summary.shed_share,
        p50_ms=summary.p50_ms or 0.0,
        p99_ms=summary.p99_ms or 0.0,
        goodput_per_s=summary.goodput_per_s,
        false_refusal_share=summary.false_miss_share,
        promised=int(ample.sum()),
        promises_kept=int(records.on_time[ample].sum()),
        blocks=tuple(block_means(records.value.tolist(), BLOCKS)),
        mix=_of_answers(arm_mix(records)),
        cpu_us=summary.decision_us,
    )


def ample_budget_ms(asked: Scenario) -> float:
    """A budget that is long enough to hold a promise to."""
    return AMPLE * min(_p99_ms(kind) for kind in asked.cluster.devices)


def reliability(condition: Condition, *, requests: int, seed: int = 0) -> list[Reliability]:
    """How right the predicted chances were, at admission and at dispatch, for random arms."""
    asked = scenario(condition, seed=seed, requests=requests)
    records = simulate(asked, Contender("forced", (("seed", seed),)).make)
    return [
        _curve(records, records.promised, f"at admission, load {condition.load:g}"),
        _curve(records, records.bound, f"at dispatch, load {condition.load:g}"),
    ]


def through_burst(
    condition: Condition, contenders: Iterable[Contender], *, requests: int, slices: int = 60
) -> list[Moment]:
    """What each policy does over time on the same requests."""
    asked = scenario(condition, seed=0, requests=requests)
    return [
        Moment(
            policy=contender.label,
            at_s=part.start_s,
            offered_per_s=part.offered_per_s,
            effective_accuracy=part.effective_accuracy,
            on_time_share=part.on_time_share,
            mix=dict(part.arms),
        )
        for contender in contenders
        for part in over_time(simulate(asked, contender.make), slices=slices)
    ]


def _bound(condition: Condition, asked: Scenario) -> list[Bound]:
    try:
        return [Bound(condition, asked.seed, upper_bound(asked))]
    except SetupError:
        return []


def _p99_ms(kind: Kind) -> float:
    fastest = kind.frontier()[0]
    timing = kind.timings[fastest.id][1]
    return kind.slot_ms(fastest) - timing.p50_ms + (timing.p99_ms or timing.p90_ms) + kind.reply_ms


def _of_answers(mix: dict[str, float]) -> dict[str, float]:
    total = sum(mix.values())
    return {arm: share / total for arm, share in mix.items()}


def _curve(records: Records, predicted: NDArray[np.float64], name: str) -> Reliability:
    known = ~np.isnan(predicted)
    bins = calibration(predicted[known].tolist(), records.on_time[known].tolist())
    lines = tuple((line.predicted, line.observed, line.n) for line in bins)
    return Reliability(SIMULATOR, name, calibration_error(bins), lines)
