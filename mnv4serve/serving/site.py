"""What requests are answered with: pools, near and far, and the zoo on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from mnv4serve.backends import Thermometer
from mnv4serve.domain import ArmView, Picture
from mnv4serve.profiler import Profile
from mnv4serve.router import planner
from mnv4serve.router.jobs import Job
from mnv4serve.serving.pool import Pool
from mnv4serve.serving.results import Ran
from mnv4serve.serving.slot import Decode


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a gateway needs to take work."""

    pools: tuple[Pool, ...]
    views: tuple[ArmView, ...]
    """Every profiled arm, resident or not."""
    decode: Decode
    lock: Lock
    """The one that the pools share: it guards all that the router decides from."""
    profiles: tuple[Profile, ...] = ()
    """Of the pools, in their order."""


class PoolLike(Protocol):
    """A pool of this process, or one in another behind a hop."""

    routing: planner.Pool
    up: bool
    """Whether it takes work; its arms are down while it does not."""

    @property
    def thermometer(self) -> Thermometer | None:
        """Where its hardware shows how hot it is, and this process can read it."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        ...

    def refused(self, picture: Picture, /) -> None: ...
    def start(self, decode: Decode, /) -> None: ...
    def close(self) -> None: ...

    async def run(self, job: Job, image: bytes) -> Ran:
        """Raises ServeError, or Lost where another pool may take the request."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """What requests are answered with: a zoo on its pools."""

    zoo_name: str
    labels: tuple[str, ...]
    pools: Mapping[str, PoolLike]
    """By device."""
    views: tuple[ArmView, ...] = ()
