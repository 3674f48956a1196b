"""One experiment as a value, and the requests it offers: the same for every policy."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import OnMiss, Picture
from mnv4serve.errors import BadConfig
from mnv4serve.simulate.arrivals import Arrivals, arrival_times_s
from mnv4serve.simulate.budgets import MIXED, Mixture
from mnv4serve.simulate.faults import Fault
from mnv4serve.simulate.hardware import MS_PER_S, TYPICAL, Cluster

POISSON = Arrivals()
MAX_REQUESTS = 100_000_000
MAX_QUEUE = ServiceConfig().max_queue


class Stream(IntEnum):
    """Sources of chance; each is its own, so that drawing from one leaves the others alone."""

    ARRIVALS = 0
    BUDGETS = 1
    PICTURES = 2
    NOISE = 3
    BALANCE = 4
    FAULTS = 5


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that decides a run but the policy."""

    cluster: Cluster
    rate_per_s: float
    requests: int
    seed: int = 0
    arrivals: Arrivals = POISSON
    budgets: Mixture = MIXED
    faults: tuple[Fault, ...] = ()
    noise: float | None = None
    """Log-normal spread of run times; None for that of the profiles."""
    on_miss: OnMiss = OnMiss.REFUSE
    """A late answer is worth nothing and takes a slot, so refusing is the default here."""
    pictures: tuple[Picture, ...] = (TYPICAL,)
    """Each request has one of them."""
    max_queue: int = MAX_QUEUE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0.0):
            raise BadConfig(f"a rate of {self.rate_per_s:g} requests a second: it must be above 0")
        if not 1 <= self.requests <= MAX_REQUESTS:
            raise BadConfig(f"{self.requests} requests: there must be 1 to {MAX_REQUESTS}")
        if self.seed < 0:
            raise BadConfig(f"seed {self.seed}: it must be 0 or more")
        if self.noise is not None and not 0.0 <= self.noise <= 1.0:
            raise BadConfig(f"noise {self.noise:g}: it must be 0 to 1")
        devices = len(self.cluster.devices)
        for fault in self.faults:
            if fault.device is not None and fault.device >= devices:
                raise BadConfig(f"fault on device {fault.device}: there are 0 to {devices - 1}")

    def rng(self, stream: Stream, part: int = 0) -> np.random.Generator:
        """Chance from one source; `part` divides it further."""
        return np.random.default_rng((self.seed, stream, part))


def rate_at(cluster: Cluster, load: float) -> float:
    """Requests a second at a load; 1.0 keeps every slot busy with its kind's reference arm.

    The reference arm is the one in the middle of the frontier over slot time (hop, decoding of a
    typical photo, median inference) and accuracy, the faster of the two middle ones.
    """
    if not (math.isfinite(load) and load > 0.0):
        raise BadConfig(f"a load of {load:g}: it must be above 0")
    return load * cluster.capacity_per_s()


@dataclass(frozen=True, slots=True)
class Offered:
    """The requests of a scenario in order of arrival."""

    arrivals_ms: NDArray[np.float64]
    budgets_ms: NDArray[np.float64]
    pictures: NDArray[np.int64]
    """Place of each request's picture in the scenario's."""

    @property
    def horizon_ms(self) -> float:
        """When the last request comes."""
        return float(self.arrivals_ms[-1])


def offer(scenario: Scenario) -> Offered:
    """Draw the requests."""
    n = scenario.requests
    times = arrival_times_s(
        scenario.arrivals,
        n,
        rate_per_s=scenario.rate_per_s,
        rng=scenario.rng(Stream.ARRIVALS),
    )
    return Offered(
        arrivals_ms=times * MS_PER_S,
        budgets_ms=scenario.budgets.draw(n, scenario.rng(Stream.BUDGETS)),
        pictures=scenario.rng(Stream.PICTURES).integers(len(scenario.pictures), size=n),
    )
