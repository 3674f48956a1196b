"""How many devices of which kind a rate of requests takes, found with the simulator itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mnv4serve.errors import BadConfig
from mnv4serve.router.policies import MakePolicy
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.hardware import MS_PER_S, TYPICAL, Cluster, Kind, Node
from mnv4serve.simulate.records import Records
from mnv4serve.simulate.scenario import Scenario

CONFIDENCE = 0.95
_Z = 1.6448536269514722
"""Of a one-sided interval."""
BLOCKS = 20
"""Stretches of a run whose shares are taken as independent of each other."""
SEEDS = 3
WARM_UP, STEADY = 1.0, 4.0
"""In longest budgets: how much of a run is not judged, because the queues still fill, and how much
there has to be after it. A run of fewer requests would overlook a load that cannot be sustained."""
GROWTH = 1.3
MAX_DEVICES = 5000
SHARES = (0.25, 0.5, 0.75)
"""Of a kind's count alone, that mixes of two kinds are tried with."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the devices have to stand."""

    scenario: Scenario
    """Its cluster is what is searched for; `requests` are those of all seeds together, at least."""
    make_policy: MakePolicy
    target: float
    """On-time share of the offered requests."""
    accuracy: float = 0.0
    """Effective accuracy that has to be reached as well."""

    def __post_init__(self) -> None:
        if not 0.0 < self.target < 1.0:
            raise BadConfig(f"a target of {self.target:g}: it must lie between 0 and 1")
        if not 0.0 <= self.accuracy < 1.0:
            raise BadConfig(f"an accuracy of {self.accuracy:g}: it must lie in [0, 1)")
        needed = math.ceil(math.log(1.0 - CONFIDENCE) / math.log(self.target))
        if self.scenario.requests < needed:
            raise BadConfig(
                f"{self.scenario.requests} requests cannot show a target of {self.target:g}: "
                f"ask for {needed} at least"
            )


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many devices of each kind, and how they did."""

    counts: tuple[int, ...]
    cost: float
    on_time_share: float
    at_least: float
    """Lower end of the one-sided 95 % interval of the on-time share."""
    effective_accuracy: float
    utilisation: float
    enough: bool


@dataclass(slots=True)
class Search:
    """Tries fleets and remembers what it tried."""

    kinds: tuple[Kind, ...]
    demand: Demand
    progress: Callable[[str, int], None] | None = None
    """Told what has been tried, and how many were."""
    tried: dict[tuple[int, ...], Fleet] = field(default_factory=dict)

    def run(self) -> Fleet:
        """The cheapest fleet found that is enough; raises BadConfig where none can be.

        Kinds alone first, by growing and halving; then two kinds together, a few shares of the one
        filled up with the smallest number of the other. Not every mix is tried.
        """
        alone = {place: self._alone(place) for place in range(len(self.kinds))}
        able = {place: fleet for place, fleet in alone.items() if fleet is not None}
        if not able:
            raise BadConfig(
                f"no number of devices answers {self.demand.target:g} of these requests on time"
                + (f" with an accuracy of {self.demand.accuracy:g}" if self.demand.accuracy else "")
                + ": ask for larger budgets or for less"
            )
        for first in able:
            for second in able:
                if first != second:
                    self._mixes(first, second, able)
        return min((f for f in self.tried.values() if f.enough), key=lambda f: (f.cost, f.counts))

    def try_out(self, counts: tuple[int, ...]) -> Fleet:
        """Simulate a fleet, unless it has been; no longer than it may still be enough."""
        found = self.tried.get(counts)
        if found is None:
            found = self.tried[counts] = self._simulated(counts)
            if self.progress is not None:
                named = ", ".join(
                    f"{count} {kind.name}"
                    for count, kind in zip(counts, self.kinds, strict=True)
                    if count
                )
                self.progress(f"{named}: {found.on_time_share:.4f} on time", len(self.tried))
        return found

    def _alone(self, place: int) -> Fleet | None:
        """The smallest fleet of one kind; None where the kind cannot do it whatever its number."""
        if not self._unloaded(place).enough:
            return None
        count = self._fewest(place)
        below = count - 1
        while not self._of(place, count).enough:
            below, count = count, math.ceil(count * GROWTH)
            if count > MAX_DEVICES:
                raise BadConfig(f"more than {MAX_DEVICES} devices would be needed: plan by parts")
        return self._smallest(lambda n: self._of(place, n), below, count)

    def _smallest(self, fleet_of: Callable[[int], Fleet], below: int, enough: int) -> Fleet:
        """Halve between a number that is not enough and one that is."""
        while enough - below > 1:
            middle = (below + enough) // 2
            if fleet_of(middle).enough:
                enough = middle
            else:
                below = middle
        return fleet_of(enough)

    def _mixes(self, first: int, second: int, alone: dict[int, Fleet]) -> None:
        for share in SHARES:
            fixed = math.ceil(share * alone[first].counts[first])
            most = math.ceil((1.0 - share) * alone[second].counts[second]) + 1
            cheapest = min(fleet.cost for fleet in self.tried.values() if fleet.enough)

            def fleet_of(n: int, fixed: int = fixed) -> Fleet:
                return self.try_out(self._counts({first: fixed, second: n}))

            cost = self._cost(self._counts({first: fixed, second: most}))
            if cost < cheapest * GROWTH and fleet_of(most).enough:
                self._smallest(fleet_of, 0, most)

    def _of(self, place: int, count: int) -> Fleet:
        return self.try_out(self._counts({place: count}))

    def _counts(self, chosen: dict[int, int]) -> tuple[int, ...]:
        return tuple(chosen.get(place, 0) for place in range(len(self.kinds)))

    def _cost(self, counts: Sequence[int]) -> float:
        return sum(n * kind.cost for n, kind in zip(counts, self.kinds, strict=True))

    def _fewest(self, place: int) -> int:
        """What the fastest arm needs with no idle slot at all; fewer cannot last."""
        kind = self.kinds[place]
        busy_ms = min(
            kind.decode.expect(TYPICAL, arm.resolution)
            + (kind.hop_ms + kind.service_ms(arm.id, size)) / size
            for arm in kind.arms
            for size in kind.timings[arm.id]
        )
        carried = kind.slots * MS_PER_S / busy_ms
        return max(1, math.ceil(self.demand.scenario.rate_per_s / carried))

    def _unloaded(self, place: int) -> Fleet:
        """One device with next to nothing to do: what no number of them would exceed."""
        kind = self.kinds[place]
        scenario = replace(self.demand.scenario, rate_per_s=0.02 * kind.capacity_per_s())
        return self._judged(self._counts({place: 1}), scenario)

    def _simulated(self, counts: tuple[int, ...]) -> Fleet:
        return self._judged(counts, self.demand.scenario)

    def _judged(self, counts: tuple[int, ...], scenario: Scenario) -> Fleet:
        loop = scenario.cluster.nodes[0].loop
        nodes = [
            Node((kind,), loop)
            for count, kind in zip(counts, self.kinds, strict=True)
            for _ in range(count)
        ]
        scenario = replace(
            scenario,
            cluster=Cluster(tuple(nodes)),
            requests=max(math.ceil(scenario.requests / SEEDS), _fewest_requests(scenario)),
        )
        runs: list[Records] = []
        for seed in range(SEEDS):
            seeded = replace(scenario, seed=scenario.seed + seed)
            runs.append(simulate(seeded, self.demand.make_policy))
            if 1.0 - lower_end(1.0 - _blocks(runs), n=_offered(runs)) < self.demand.target:
                break
        return self._fleet(counts, runs)

    def _fleet(self, counts: tuple[int, ...], runs: Sequence[Records]) -> Fleet:
        blocks = _blocks(runs)
        at_least = lower_end(blocks, n=_offered(runs))
        accuracy = float(np.mean([run.value[_steady(run)].mean() for run in runs]))
        busy = sum(float(run.busy_ms.sum()) for run in runs)
        slots = sum(n * kind.slots for n, kind in zip(counts, self.kinds, strict=True))
        return Fleet(
            counts=counts,
            cost=self._cost(counts),
            on_time_share=float(np.mean(blocks)),
            at_least=at_least,
            effective_accuracy=accuracy,
            utilisation=busy / (slots * sum(run.horizon_ms for run in runs)),
            enough=at_least >= self.demand.target and accuracy >= self.demand.accuracy,
        )


def _longest_ms(scenario: Scenario) -> float:
    return max(part.high_ms for part in scenario.budgets.ranges)


def _fewest_requests(scenario: Scenario) -> int:
    span_s = (WARM_UP + STEADY) * _longest_ms(scenario) / MS_PER_S
    return max(10 * BLOCKS, math.ceil(scenario.rate_per_s * span_s))


def _steady(run: Records) -> NDArray[np.bool_]:
    """The requests that came after the warm-up; all where nothing came after it."""
    judged: NDArray[np.bool_] = run.offered.arrivals_ms >= WARM_UP * _longest_ms(run.scenario)
    return judged if judged.any() else ~judged


def _blocks(runs: Sequence[Records]) -> NDArray[np.float64]:
    """On-time shares of stretches of the runs."""
    judged = [run.on_time[_steady(run)] for run in runs]
    return np.array([b.mean() for on_time in judged for b in np.array_split(on_time, BLOCKS)])


def _offered(runs: Sequence[Records]) -> int:
    return sum(int(_steady(run).sum()) for run in runs)


def lower_end(shares: NDArray[np.float64], *, n: int) -> float:
    """Lower end of the one-sided 95 % interval of a share, from its blocks.

    Never above what as many independent requests would allow, which is what matters where hardly
    one failed.
    """
    mean = float(shares.mean())
    spread = float(shares.std(ddof=1)) / math.sqrt(len(shares))
    faultless = float((1.0 - CONFIDENCE) ** (1.0 / n))
    return max(0.0, min(mean - _Z * spread, _wilson(mean, n), faultless))


def _wilson(share: float, n: int) -> float:
    centre = share + _Z**2 / (2 * n)
    width = _Z * math.sqrt(share * (1.0 - share) / n + _Z**2 / (4 * n * n))
    return (centre - width) / (1.0 + _Z**2 / n)
