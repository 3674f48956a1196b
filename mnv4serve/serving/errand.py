"""What travels between an ingress and a pool in another process, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mnv4serve.domain import ArmView, Picture, Plan, Stages, Terms, Timing
from mnv4serve.router.decode_cost import DecodeCost


@dataclass(frozen=True, slots=True)
class Errand:
    """One admitted request; pictures travel encoded."""

    image: bytes
    picture: Picture
    terms: Terms
    """The budget is what is left of it when the errand is sent, less the way back."""
    generation: str = ""
    """Of the pool that it was planned for."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a replica of a pool was when it answered; every answer carries one."""

    replica: str
    committed_ms: float
    """Slot time promised already: what runs and all that waits."""
    slots: int
    slowdown: float


@dataclass(frozen=True, slots=True)
class Done:
    """An errand's result."""

    plan: Plan
    stages: Stages
    """`total_ms` from the arrival of the errand until its slot had finished."""
    logits: bytes
    """float32."""
    report: Report


@dataclass(frozen=True, slots=True)
class Failed:
    """An errand without a result, and the code of its error."""

    code: str
    message: str
    report: Report


@dataclass(frozen=True, slots=True)
class Portrait:
    """What a pool is: enough to predict it from elsewhere."""

    label: str
    zoo: str
    views: tuple[ArmView, ...]
    timings: dict[str, dict[int, Timing]]
    decode: DecodeCost
    slots: int
    max_queue: int
    generation: str = ""
    """Changes with what the pool serves."""
    switching_ms: Mapping[str, float] = field(default_factory=dict)
    """By arm id: what its first picture takes longer after another arm."""
