"""The vocabulary as frozen values: no I/O, no clock, no third-party import.

Times are milliseconds of a monotonic clock, accuracies and probabilities lie in [0, 1].
"""

from dataclasses import dataclass
from enum import StrEnum


class BackendName(StrEnum):
    """The runtimes that execute artifacts."""

    CPU = "cpu"
    ONNX = "onnx"
    CUDA = "cuda"
    EDGETPU = "edgetpu"
    LITERT = "litert"


class Precision(StrEnum):
    """The number format in which an artifact computes."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class OnMiss(StrEnum):
    """What to do when no arm is likely on time."""

    DEGRADE = "degrade"
    REFUSE = "refuse"


class Reason(StrEnum):
    """Why a plan chose its arm."""

    MOST_ACCURATE_ON_TIME = "most_accurate_on_time"
    PRICED_DOWN = "priced_down"
    PINNED = "pinned"
    FLOOR = "floor"
    DEGRADED = "degraded"
    REBOUND = "rebound"


class Outcome(StrEnum):
    """How a request ended."""

    ON_TIME = "on_time"
    LATE = "late"
    REFUSED = "refused"
    EXPIRED = "expired"
    SHED = "shed"
    INVALID = "invalid"
    ERROR = "error"
    CANCELLED = "cancelled"


class Transport(StrEnum):
    """How a request came in."""

    HTTP = "http"
    GRPC = "grpc"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Arm:
    """An artifact on a device: what the router chooses among."""

    variant: str
    backend: BackendName
    precision: Precision
    device: str
    resolution: int
    accuracy: float | None = None
    """Of the artifact as built, on the serving path; None where nobody measured it."""
    accuracy_taken_over: bool = False
    """From another artifact of the variant, or from whoever trained the weights: nobody measured it
    on this one."""
    temperature: float = 1.0
    """What its logits are divided by before they become probabilities."""
    tied_to: str = ""
    """Id of a faster arm of the same pool that it was not shown to be more accurate than."""
    simulated: bool = False
    id: str = ""
    """`variant/backend/precision/device`, derived when left empty."""

    def __post_init__(self) -> None:
        if not self.id:
            arm_id = f"{self.variant}/{self.backend}/{self.precision}/{self.device}"
            object.__setattr__(self, "id", arm_id)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture's header tells before anything is decoded."""

    format: str
    """Upper-case name as Pillow gives it: `JPEG`, `PNG`, `GIF`, ..."""
    width: int
    height: int
    n_bytes: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks for beside the picture."""

    budget_ms: float = 100.0
    top_k: int = 5
    min_accuracy: float | None = None
    variant: str | None = None
    backend: BackendName | None = None
    on_miss: OnMiss = OnMiss.DEGRADE


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a transport hands it to the gateway."""

    image: bytes
    terms: Terms
    transport: Transport
    request_id: str
    received_ms: float
    """When the last byte of the body had arrived."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The router's decision for one request."""

    arm: Arm
    predicted_ms: float
    """The whole latency: wait + decode + service + hop + reply."""
    wait_ms: float
    decode_ms: float
    service_ms: float
    hop_ms: float
    reply_ms: float
    on_time_probability: float
    reason: Reason
    switch_ms: float = 0.0
    """The part of the service that brings the arm's weights to the device."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label with its probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time of a finished request went, in milliseconds."""

    wait_ms: float
    decode_ms: float
    service_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Served:
    """The record of one finished request; metrics, logs and learning feed on it.

    `plan` is None where the request ended before it was planned, `stages` where nothing ran.
    """

    request_id: str
    transport: Transport
    terms: Terms
    outcome: Outcome
    plan: Plan | None = None
    stages: Stages | None = None
    refused_reason: str | None = None
    """Class name of the error in snake case, for refusals and failures."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request, before a transport writes it."""

    request_id: str
    zoo: str
    terms: Terms
    plan: Plan
    """As decided last: at dispatch, where that changed the arm."""
    stages: Stages
    on_time: bool
    """Judged with the predicted cost of the reply; metrics use the real one."""
    predictions: tuple[Prediction, ...]
    received_ms: float = 0.0
    """When the call was received."""
    ready_ms: float = 0.0
    """From then until the slot had finished, to tell what the way from there cost."""


@dataclass(frozen=True, slots=True)
class ArmView:
    """One line of the live or stored frontier."""

    arm: Arm
    p50_ms: float
    p99_ms: float | None
    """None after a quick profile, which is too short for a p99."""
    expected_ms: float | None
    """Whole latency of the example picture as predicted now; None in a stored frontier."""
    resident: bool
    on_frontier: bool


@dataclass(frozen=True, slots=True)
class Timing:
    """Measured service time of one arm at one batch size, inference alone."""

    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    n: int
