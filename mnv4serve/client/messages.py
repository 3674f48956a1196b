"""Values of a client from and to the messages of the gRPC interface."""

from typing import Any

from mnv4serve.client.values import (
    Arm,
    ArmView,
    Asked,
    Frontier,
    Latency,
    Plan,
    PoolView,
    Recent,
    Refusal,
    Reply,
)
from mnv4serve.domain import Prediction
from mnv4serve.errors import BadParameter
from mnv4serve.v1 import classifier_pb2 as pb


def request_message(image: bytes, asked: Asked) -> pb.ClassifyRequest:
    """Raises BadParameter where a value cannot even be written down."""
    fields: dict[str, Any] = dict(asked)
    if "on_miss" in asked:
        fields["on_miss"] = f"ON_MISS_{asked['on_miss'].upper()}"
    try:
        return pb.ClassifyRequest(image=image, **fields)
    except (TypeError, ValueError) as error:
        raise BadParameter(f"the request cannot be written: {error}") from error


def reply_from_message(message: pb.ClassifyReply) -> Reply:
    latency = message.latency
    return Reply(
        predictions=tuple(Prediction(p.label, p.index, p.probability) for p in message.predictions),
        zoo=message.zoo,
        arm=_arm(message.arm),
        budget_ms=message.budget_ms,
        on_time=message.on_time,
        latency=Latency(
            total_ms=latency.total_ms,
            wait_ms=latency.wait_ms,
            decode_ms=latency.decode_ms,
            service_ms=latency.service_ms,
            predicted_ms=latency.predicted_ms,
        ),
        reason=_reason(message.reason),
        on_time_probability=message.on_time_probability,
        request_id=message.request_id,
    )


def plan_from_message(message: pb.PlanReply) -> Plan:
    return Plan(
        arm=_arm(message.arm),
        budget_ms=message.budget_ms,
        predicted_ms=message.predicted_ms,
        wait_ms=message.wait_ms,
        decode_ms=message.decode_ms,
        service_ms=message.service_ms,
        hop_ms=message.hop_ms,
        reply_ms=message.reply_ms,
        reason=_reason(message.reason),
        on_time_probability=message.on_time_probability,
        request_id=message.request_id,
    )


def frontier_from_message(message: pb.GetFrontierReply) -> Frontier:
    return Frontier(
        zoo=message.zoo,
        arms=tuple(
            ArmView(
                arm=_arm(view.arm),
                p50_ms=view.p50_ms,
                p99_ms=_maybe(view, "p99_ms"),
                expected_ms=_maybe(view, "expected_ms"),
                resident=view.resident,
                on_frontier=view.on_frontier,
                traffic_share=_maybe(view, "traffic_share"),
                on_time_share=_maybe(view, "on_time_share"),
            )
            for view in message.arms
        ),
        pools=tuple(
            PoolView(pool.device, pool.slots, pool.running, pool.queue_depth, pool.slowdown)
            for pool in message.pools
        ),
        recent=_recent(message.recent),
    )


def _recent(message: pb.RecentTraffic) -> Recent:
    return Recent(
        requests=message.requests,
        span_ms=message.span_ms,
        on_time_share=_maybe(message, "on_time_share"),
        p50_ms=_maybe(message, "p50_ms"),
        p99_ms=_maybe(message, "p99_ms"),
        refusals=tuple(
            Refusal(one.ago_ms, one.outcome, one.reason, one.transport, one.budget_ms)
            for one in message.refusals
        ),
    )


def _maybe(message: Any, name: str) -> float | None:  # noqa: ANN401  # messages share no type
    return float(getattr(message, name)) if message.HasField(name) else None


def _arm(message: pb.Arm) -> Arm:
    return Arm(
        id=message.id,
        variant=message.variant,
        backend=message.backend,
        precision=message.precision,
        device=message.device,
        accuracy=_maybe(message, "accuracy"),
        simulated=message.simulated,
        accuracy_taken_over=message.accuracy_taken_over,
    )


def _reason(number: int) -> str:
    value = pb.Reason.DESCRIPTOR.values_by_number.get(number)
    return "unknown" if value is None else str(value.name).removeprefix("REASON_").lower()
