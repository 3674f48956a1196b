"""Chooses each rival's settings by simulating requests that the comparison does not see."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import fmean

import numpy as np

from loadtests.evaluate.contenders import Contender, settings_to_try, statics
from loadtests.evaluate.grid import TUNING_SEED, Plan, cluster_of, scenario, without_fault
from loadtests.evaluate.records import Condition
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.hardware import MS_PER_S
from mnv4serve.simulate.scenario import Scenario, offer

SWITCH = 0.5
"""Where between two loads Model-Switching changes from the arm of one to that of the other."""


def fixed_arms(condition: Condition) -> list[Contender]:
    """One contender for every arm of the frontier."""
    kind = cluster_of(condition).devices[0]
    return statics([arm.id for arm in kind.frontier()])


def tuned(
    condition: Condition, plan: Plan, *, only: Sequence[str] | None = None
) -> dict[str, Contender]:
    """For each rival the settings that did best on the seeds for tuning, without any fault."""
    quiet = without_fault(condition)
    asked = _asked(quiet, plan)
    switching = only is None or "model-switching" in only
    choices = settings_to_try(
        [dict(contender.settings)["arm_id"] for contender in fixed_arms(quiet)],
        switching_table=switching_table(replace(quiet, load=1.0), plan) if switching else (),
        budgets_ms=_budgets_ms(asked[0]),
    )
    return {
        name: _best(contenders, asked)
        for name, contenders in choices.items()
        if only is None or name in only
    }


def best_fixed_arm(condition: Condition, plan: Plan) -> Contender:
    """The arm that one would have fixed after trying all."""
    quiet = without_fault(condition)
    return _best(fixed_arms(quiet), _asked(quiet, plan))


@cache
def switching_table(family: Condition, plan: Plan) -> list[tuple[float, str]]:
    """The fixed arm that does best at each load, as measured on a seed for tuning.

    The family's own load does not matter.
    """
    rows = []
    for load in plan.loads:
        at_load = replace(family, load=load)
        asked = scenario(at_load, seed=TUNING_SEED, requests=plan.tuning_requests)
        best = _best(fixed_arms(family), [asked])
        rows.append((asked.rate_per_s / MS_PER_S, str(dict(best.settings)["arm_id"])))
    limits = [low + SWITCH * (high - low) for (low, _), (high, _) in pairwise(rows)]
    return [(up_to, arm_id) for up_to, (_, arm_id) in zip([*limits, 1e9], rows, strict=True)]


def _asked(condition: Condition, plan: Plan) -> list[Scenario]:
    return [
        scenario(condition, seed=TUNING_SEED + number, requests=plan.tuning_requests)
        for number in range(plan.tuning_seeds)
    ]


def _best(contenders: Sequence[Contender], asked: Sequence[Scenario]) -> Contender:
    if len(contenders) == 1:
        return contenders[0]
    return max(contenders, key=lambda contender: _score(contender, asked))


def _score(contender: Contender, asked: Sequence[Scenario]) -> float:
    return fmean(float(simulate(one, contender.make).value.mean()) for one in asked)


def _budgets_ms(asked: Scenario, quantiles: int = 20) -> list[float]:
    """Equally likely budgets that stand for the mixture."""
    shares = (np.arange(quantiles) + 0.5) / quantiles
    return [round(float(x), 2) for x in np.quantile(offer(asked).budgets_ms, shares)]
