"""What a client gets back, the same over both protocols."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from mnv4serve.domain import Prediction

Json = Mapping[str, Any]


class Asked(TypedDict, total=False):
    """The terms of one request; what is left out, the service decides."""

    budget_ms: float
    top_k: int
    min_accuracy: float
    variant: str
    backend: str
    on_miss: Literal["degrade", "refuse"]
    request_id: str


@dataclass(frozen=True, slots=True)
class Arm:
    """An artifact on a device."""

    id: str
    variant: str
    backend: str
    precision: str
    device: str
    accuracy: float | None
    simulated: bool
    accuracy_taken_over: bool
    """From another artifact of the variant, or published: nobody measured this one."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of a request went, as the service measured it."""

    total_ms: float
    wait_ms: float
    decode_ms: float
    service_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one picture."""

    predictions: tuple[Prediction, ...]
    """Most probable first."""
    zoo: str
    arm: Arm
    budget_ms: float
    on_time: bool
    latency: Latency
    reason: str
    on_time_probability: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the service would choose now."""

    arm: Arm
    budget_ms: float
    predicted_ms: float
    wait_ms: float
    decode_ms: float
    service_ms: float
    hop_ms: float
    reply_ms: float
    reason: str
    on_time_probability: float
    request_id: str


@dataclass(frozen=True, slots=True)
class ArmView:
    """One arm with its latency."""

    arm: Arm
    p50_ms: float
    p99_ms: float | None
    expected_ms: float | None
    resident: bool
    on_frontier: bool
    traffic_share: float | None
    on_time_share: float | None


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at the moment of asking."""

    device: str
    slots: int
    running: int
    queue_depth: int
    slowdown: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request that got no answer."""

    ago_ms: float
    outcome: str
    reason: str
    transport: str
    budget_ms: float


@dataclass(frozen=True, slots=True)
class Recent:
    """What the last requests came to, at most a thousand and none older than a minute."""

    requests: int
    span_ms: float
    on_time_share: float | None
    p50_ms: float | None
    p99_ms: float | None
    refusals: tuple[Refusal, ...]
    """Newest first, however long ago."""


@dataclass(frozen=True, slots=True)
class Frontier:
    """A service as it is now: its arms, fastest first, its pools, its recent traffic."""

    zoo: str
    arms: tuple[ArmView, ...]
    pools: tuple[PoolView, ...]
    recent: Recent


def reply_from_json(json: Json) -> Reply:
    latency = json["latency_ms"]
    return Reply(
        predictions=tuple(
            Prediction(p["label"], p["index"], p["probability"]) for p in json["predictions"]
        ),
        zoo=json["zoo"],
        arm=_arm(json),
        budget_ms=json["budget_ms"],
        on_time=json["on_time"],
        latency=Latency(
            total_ms=latency["total"],
            wait_ms=latency["wait"],
            decode_ms=latency["decode"],
            service_ms=latency["service"],
            predicted_ms=latency["predicted"],
        ),
        reason=json["plan"]["reason"],
        on_time_probability=json["plan"]["on_time_probability"],
        request_id=json["request_id"],
    )


def plan_from_json(json: Json) -> Plan:
    latency = json["latency_ms"]
    return Plan(
        arm=_arm(json),
        budget_ms=json["budget_ms"],
        predicted_ms=latency["predicted"],
        wait_ms=latency["wait"],
        decode_ms=latency["decode"],
        service_ms=latency["service"],
        hop_ms=latency["hop"],
        reply_ms=latency["reply"],
        reason=json["plan"]["reason"],
        on_time_probability=json["plan"]["on_time_probability"],
        request_id=json["request_id"],
    )


def frontier_from_json(json: Json) -> Frontier:
    return Frontier(
        zoo=json["zoo"],
        arms=tuple(
            ArmView(
                arm=_arm(view),
                p50_ms=view["p50_ms"],
                p99_ms=view["p99_ms"],
                expected_ms=view["expected_ms"],
                resident=view["resident"],
                on_frontier=view["on_frontier"],
                traffic_share=view["traffic_share"],
                on_time_share=view["on_time_share"],
            )
            for view in json["arms"]
        ),
        pools=tuple(PoolView(**pool) for pool in json["pools"]),
        recent=Recent(
            **json["recent"] | {"refusals": tuple(Refusal(**r) for r in json["recent"]["refusals"])}
        ),
    )


def _arm(json: Json) -> Arm:
    return Arm(
        id=json["arm"],
        variant=json["variant"],
        backend=json["backend"],
        precision=json["precision"],
        device=json["device"],
        accuracy=json["accuracy"],
        simulated=json.get("simulated", False),
        accuracy_taken_over=json.get("accuracy_taken_over", False),
    )
