"""Ours against every rival under every condition, and against what is possible at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from loadtests.evaluate.records import (
    SIMULATOR,
    Bound,
    Condition,
    Result,
    conditions,
    of_policy,
)
from loadtests.evaluate.statistics import Interval, paired

OURS = "priced"
STATIC = "static"
"""Policies of a fixed arm are called `static:ARM`."""
MARGIN = 0.003
"""By how much ours may be worse: 0.3 points of effective accuracy."""


class Standing(StrEnum):
    """Whether ours is no worse than a rival by more than the margin."""

    AHEAD = "ahead"
    """Better, the whole interval says so."""
    HOLDS = "holds"
    """Not shown better; the whole interval lies above minus the margin."""
    OPEN = "open"
    """The interval contains minus the margin: too few seeds to tell."""
    FAILS = "fails"
    """Worse by more than the margin, the whole interval says so."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ours minus a rival's effective accuracy over the same arrivals."""

    condition: Condition
    rival: str
    difference: Interval

    @property
    def standing(self) -> Standing:
        if self.difference.low > 0.0:
            return Standing.AHEAD
        if self.difference.low >= -MARGIN:
            return Standing.HOLDS
        return Standing.FAILS if self.difference.high < -MARGIN else Standing.OPEN


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a policy stands between the best static arm and the clairvoyant bound."""

    condition: Condition
    best_static: str
    static: float
    ours: float
    bound: float

    @property
    def closed(self) -> float:
        return (self.ours - self.static) / (self.bound - self.static)


def mean_accuracy(results: Sequence[Result]) -> float:
    """Effective accuracy over seeds."""
    return fmean(result.effective_accuracy for result in results)


def policies(results: Sequence[Result]) -> list[str]:
    """Names in order of appearance."""
    return list(dict.fromkeys(result.policy for result in results))


def best_static(
    results: Sequence[Result], condition: Condition, *, layer: str = SIMULATOR
) -> str | None:
    """The fixed arm that turned out best for this very condition; None where none was run."""
    scores = {
        name: mean_accuracy(found)
        for name in policies(results)
        if name.startswith(STATIC) and (found := of_policy(results, condition, name, layer=layer))
    }
    return max(scores, key=scores.__getitem__) if scores else None


def rivals(results: Sequence[Result], condition: Condition, *, layer: str = SIMULATOR) -> list[str]:
    """Every policy but ours; of the fixed arms only the best in hindsight."""
    present = [
        name
        for name in policies(results)
        if name != OURS
        and not name.startswith(STATIC)
        and of_policy(results, condition, name, layer=layer)
    ]
    static = best_static(results, condition, layer=layer)
    return [static, *present] if static else present


def verdicts(results: Sequence[Result], *, layer: str = SIMULATOR) -> list[Verdict]:
    """Ours against each rival under each condition."""
    found = []
    for condition in conditions(r for r in results if r.layer == layer):
        ours = of_policy(results, condition, OURS, layer=layer)
        for name in rivals(results, condition, layer=layer) if ours else []:
            theirs = of_policy(results, condition, name, layer=layer)
            found.append(Verdict(condition, name, difference(ours, theirs)))
    return found


def difference(ours: Sequence[Result], theirs: Sequence[Result]) -> Interval:
    """Paired over seeds and blocks: the same requests, part by part."""
    return paired(_units(ours), _units(theirs))


def gaps(results: Sequence[Result], bounds: Sequence[Bound], policy: str = OURS) -> list[Gap]:
    """How much of the way from the best static arm to the bound a policy goes."""
    found = []
    for condition in conditions(r for r in results if r.layer == SIMULATOR):
        limits = [bound.effective_accuracy for bound in bounds if bound.condition == condition]
        static = best_static(results, condition)
        runs = of_policy(results, condition, policy)
        if not limits or static is None or not runs:
            continue
        floor = mean_accuracy(of_policy(results, condition, static))
        gap = Gap(condition, static, floor, mean_accuracy(runs), fmean(limits))
        if gap.bound > gap.static:
            found.append(gap)
    return found


def _units(results: Sequence[Result]) -> list[float]:
    return [value for result in results for value in result.blocks]
