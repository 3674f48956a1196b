"""Which arm to run for each length of the queue and slack of its head, solved beforehand.

A semi-Markov decision process of one slot under Poisson arrivals, by value iteration in plain
Python. Seconds of work: never on the request path.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import mul

DROP = -1
"""Instead of an arm: the head is given up and takes no time."""
_HORIZON = 25.0
"""Largest budgets within which rewards count; long against any busy period."""
_RARE = 1e-3
"""Numbers of arrivals with less than this left beyond them are taken together."""
_NEVER = 1e-6
_SETTLED = 2e-4
_MAX_ROUNDS = 100
_FOLLOWED = 10


@dataclass(frozen=True, slots=True)
class Workload:
    """What one slot has to expect."""

    rate_per_ms: float
    budgets_ms: tuple[float, ...]
    """Equally likely budgets, less what an answer takes beside its slot."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How finely the state is told apart."""

    longest: int = 16
    """Longer queues act as this one."""
    bins: int = 12


@dataclass(frozen=True, slots=True)
class Table:
    """The best action for each state."""

    edges_ms: tuple[float, ...]
    """Slacks are rounded down to these."""
    actions: tuple[tuple[int, ...], ...]
    """By queue length - 1, then by slack: the place of the arm, or DROP."""

    def action(self, waiting: int, slack_ms: float) -> int:
        row = self.actions[min(max(waiting, 1), len(self.actions)) - 1]
        return row[max(bisect_right(self.edges_ms, slack_ms) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Option:
    """An arm as the process knows it."""

    slot_ms: float
    """How long a run takes the slot."""
    needs_ms: float
    """Slack from which its answer counts as on time."""
    accuracy: float


_Step = tuple[int, float, float, list[int], list[float]]
"""Action, reward, discount, next states and their probabilities."""


@lru_cache(maxsize=256)
def solve(options: tuple[Option, ...], workload: Workload, grid: Grid) -> Table:
    """The policy that earns most accuracy per time; an answer that is late earns nothing."""
    edges = _edges([option.needs_ms for option in options], workload, grid.bins)
    model = _Model(options, workload, edges, grid.longest)
    steps = [
        [model.step(waiting, place, action) for action in model.actions(place)]
        for waiting in range(1, grid.longest + 1)
        for place in range(len(edges))
    ]
    best = _iterate(steps, model)
    width = len(edges)
    rows = tuple(tuple(best[start : start + width]) for start in range(0, len(best), width))
    return Table(tuple(edges), rows)


def _edges(times_ms: Sequence[float], workload: Workload, bins: int) -> list[float]:
    """Zero, then geometric from the fastest arm's time to the largest budget, arms' times on it."""
    low, high = min(times_ms), max(workload.budgets_ms)
    ratio = max(high / low, 1.0 + 1e-9) ** (1.0 / bins)
    spaced = [low * ratio**step for step in range(bins)]
    return sorted({0.0, *spaced, *(time_ms for time_ms in times_ms if time_ms < high)})


class _Model:
    """Transitions and rewards between the moments at which the slot is free."""

    def __init__(
        self,
        options: Sequence[Option],
        workload: Workload,
        edges: Sequence[float],
        longest: int,
    ) -> None:
        self.options = options
        self.edges = edges
        self.longest = longest
        self.rate = workload.rate_per_ms
        self.budgets = workload.budgets_ms
        self.horizon_ms = _HORIZON * max(workload.budgets_ms)
        self.empty = longest * len(edges)
        """The state without work."""
        self.arrival = self._arrival()
        """From the state without work to that of the next request."""
        self._fresh = [self._fresh_shares(option.slot_ms) for option in options]

    def actions(self, place: int) -> list[int]:
        """Arms that make it within the slack, and giving up."""
        slack_ms = self.edges[place]
        return [DROP, *(i for i, o in enumerate(self.options) if o.needs_ms <= slack_ms)]

    def step(self, waiting: int, place: int, action: int) -> _Step:
        if action == DROP:
            over = [[0.0] * len(self.edges) for _ in range(waiting)]
            older = self._older(self.edges[place], 0.0)
            over[-1] = [1.0, *(old ** (waiting - 1) for old in older[1:])]
            return DROP, 0.0, 1.0, *self._states(over)
        option = self.options[action]
        older = self._older(self.edges[place], option.slot_ms)
        over = [[0.0] * len(self.edges) for _ in range(self.longest + 1)]
        for arrived, chance in enumerate(_poisson(self.rate * option.slot_ms)):
            row = over[min(waiting - 1 + arrived, self.longest)]
            for i, (old, new) in enumerate(zip(older, self._fresh[action], strict=True)):
                row[i] += chance * old ** (waiting - 1) * new**arrived if i else chance
        discount = math.exp(-option.slot_ms / self.horizon_ms)
        return action, option.accuracy, discount, *self._states(over)

    def _arrival(self) -> _Step:
        states = [bisect_right(self.edges, budget) - 1 for budget in self.budgets]
        discount = self.rate / (self.rate + 1.0 / self.horizon_ms)
        return DROP, 0.0, discount, states, [1.0 / len(states)] * len(states)

    def _states(self, over: Sequence[Sequence[float]]) -> tuple[list[int], list[float]]:
        """States and their chances, from those of so many waiting with a head of more slack."""
        states, chances = [self.empty], [over[0][0]]
        for waiting, row in enumerate(over[1:], start=1):
            for place, (above, below) in enumerate(pairwise([*row, 0.0])):
                if above - below > _NEVER:
                    states.append((waiting - 1) * len(self.edges) + place)
                    chances.append(above - below)
        return states, chances

    def _older(self, head_ms: float, elapsed_ms: float) -> list[float]:
        """Chance of each edge to be exceeded by a request that was due after the head.

        Its slack is taken to be spread as that of all requests since they arrived, which for
        equal budgets is evenly between the head's and a whole budget.
        """
        at_head = self._residual(head_ms)
        if at_head <= 0.0:
            return [0.0] * len(self.edges)
        return [self._residual(max(head_ms, x + elapsed_ms)) / at_head for x in self.edges]

    def _residual(self, slack_ms: float) -> float:
        return sum(max(0.0, budget - slack_ms) for budget in self.budgets)

    def _fresh_shares(self, time_ms: float) -> list[float]:
        """Chance of each edge to be exceeded at its end by what arrived during a run."""
        total = time_ms * len(self.budgets)
        return [
            sum(min(max(budget - x, 0.0), time_ms) for budget in self.budgets) / total
            for x in self.edges
        ]


def _poisson(mean: float) -> list[float]:
    """Chances of 0, 1, 2, ... arrivals, the last one with all that is beyond it."""
    chances = [math.exp(-mean)]
    left = 1.0 - chances[0]
    while left > _RARE:
        chances.append(chances[-1] * mean / len(chances))
        left -= chances[-1]
    chances[-1] += max(left, 0.0)
    return chances


def _iterate(steps: Sequence[Sequence[_Step]], model: _Model) -> list[int]:
    """Improve the policy and follow it for a while by turns, until it stays as it is."""
    values = [0.0] * (len(steps) + 1)
    best: list[_Step] = []
    for _ in range(_MAX_ROUNDS):
        followed = best
        best = [max(options, key=lambda step: _worth(step, values)) for options in steps]
        for _ in range(_FOLLOWED):
            before = values
            values = [_worth(step, before) for step in (*best, model.arrival)]
        changes = [new - old for new, old in zip(values, before, strict=True)]
        if best == followed and max(changes) - min(changes) < _SETTLED:
            break
    return [step[0] for step in best]


def _worth(step: _Step, values: Sequence[float]) -> float:
    _, reward, discount, states, shares = step
    return reward + discount * sum(map(mul, map(values.__getitem__, states), shares), 0.0)
