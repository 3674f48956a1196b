"""Domain values as the messages of the gRPC interface, and its errors as google.rpc.Status."""

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm, OnMiss, Plan, Reason, Reply, Terms
from mnv4serve.errors import (
    ArmDown,
    BadImage,
    BadParameter,
    Busy,
    Cancelled,
    Draining,
    Expired,
    Infeasible,
    Internal,
    NoSuchArm,
    NotReady,
    ServeError,
    Shed,
    SlowBody,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
    code,
)
from mnv4serve.serving.frontier import LiveView
from mnv4serve.serving.terms import (
    checked_backend,
    checked_budget,
    checked_floor,
    checked_top_k,
    checked_variant,
)
from mnv4serve.serving.traffic import ArmShare, Recent
from mnv4serve.serving.wire import hints
from mnv4serve.v1 import classifier_pb2 as pb

DOMAIN = "mnv4serve"
"""Of every ErrorInfo."""

STATUS: Mapping[type[ServeError], grpc.StatusCode] = {
    BadParameter: grpc.StatusCode.INVALID_ARGUMENT,
    BadImage: grpc.StatusCode.INVALID_ARGUMENT,
    NoSuchArm: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    SlowBody: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooLarge: grpc.StatusCode.INVALID_ARGUMENT,  # RESOURCE_EXHAUSTED would invite a retry
    UnsupportedMedia: grpc.StatusCode.INVALID_ARGUMENT,
    Infeasible: grpc.StatusCode.FAILED_PRECONDITION,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    Shed: grpc.StatusCode.UNAVAILABLE,
    ArmDown: grpc.StatusCode.UNAVAILABLE,
    Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    Internal: grpc.StatusCode.INTERNAL,
}
REASON: Mapping[Reason, str] = {reason: f"REASON_{reason.name}" for reason in Reason}
_ON_MISS: Mapping[int, OnMiss] = {
    pb.ON_MISS_UNSPECIFIED: OnMiss.DEGRADE,
    pb.ON_MISS_DEGRADE: OnMiss.DEGRADE,
    pb.ON_MISS_REFUSE: OnMiss.REFUSE,
}


def terms_of(
    request: pb.ClassifyRequest, *, config: ServiceConfig, n_labels: int, remaining_ms: float | None
) -> Terms:
    """Raises BadParameter; `remaining_ms`, of the call's deadline, caps the budget."""
    asked_ms = request.budget_ms if request.HasField("budget_ms") else None
    budget_ms = config.default_budget_ms if asked_ms is None else checked_budget(asked_ms)
    top_k = request.top_k if request.HasField("top_k") else None
    has_floor = request.HasField("min_accuracy")
    return Terms(
        budget_ms=budget_ms if remaining_ms is None else min(budget_ms, remaining_ms),
        top_k=checked_top_k(top_k, n_labels),
        min_accuracy=checked_floor(request.min_accuracy) if has_floor else None,
        variant=checked_variant(request.variant),
        backend=checked_backend(request.backend) if request.backend else None,
        on_miss=_on_miss(request.on_miss),
    )


def _on_miss(number: int) -> OnMiss:
    on_miss = _ON_MISS.get(number)
    if on_miss is None:
        raise BadParameter(f"on_miss has no value {number}: take ON_MISS_DEGRADE or ON_MISS_REFUSE")
    return on_miss


def reply_message(reply: Reply) -> pb.ClassifyReply:
    plan, stages = reply.plan, reply.stages
    return pb.ClassifyReply(
        predictions=[
            pb.Prediction(label=p.label, index=p.index, probability=p.probability)
            for p in reply.predictions
        ],
        zoo=reply.zoo,
        arm=_arm(plan.arm),
        budget_ms=reply.terms.budget_ms,
        on_time=reply.on_time,
        latency=pb.Latency(
            total_ms=stages.total_ms,
            wait_ms=stages.wait_ms,
            decode_ms=stages.decode_ms,
            service_ms=stages.service_ms,
            predicted_ms=plan.predicted_ms,
        ),
        reason=REASON[plan.reason],
        on_time_probability=plan.on_time_probability,
        request_id=reply.request_id,
    )


def plan_message(plan: Plan, *, terms: Terms, request_id: str) -> pb.PlanReply:
    return pb.PlanReply(
        arm=_arm(plan.arm),
        budget_ms=terms.budget_ms,
        predicted_ms=plan.predicted_ms,
        wait_ms=plan.wait_ms,
        decode_ms=plan.decode_ms,
        service_ms=plan.service_ms,
        hop_ms=plan.hop_ms,
        reply_ms=plan.reply_ms,
        on_time_probability=plan.on_time_probability,
        reason=REASON[plan.reason],
        request_id=request_id,
    )


def frontier_message(zoo: str, live: LiveView) -> pb.GetFrontierReply:
    shares = live.recent.arms
    return pb.GetFrontierReply(
        zoo=zoo,
        arms=[
            pb.ArmView(
                arm=_arm(view.arm),
                p50_ms=view.p50_ms,
                p99_ms=view.p99_ms,
                expected_ms=view.expected_ms,
                resident=view.resident,
                on_frontier=view.on_frontier,
                **_share(shares.get(view.arm.id), some=bool(shares)),
            )
            for view in live.arms
        ],
        pools=[
            pb.PoolView(
                device=pool.device,
                slots=pool.slots,
                running=pool.running,
                queue_depth=pool.queue_depth,
                slowdown=pool.slowdown,
            )
            for pool in live.pools
        ],
        recent=_recent(live.recent),
    )


def _share(share: ArmShare | None, *, some: bool) -> dict[str, float]:
    if share is None:
        return {"traffic_share": 0.0} if some else {}
    return {"traffic_share": share.traffic_share, "on_time_share": share.on_time_share}


def _recent(recent: Recent) -> pb.RecentTraffic:
    return pb.RecentTraffic(
        requests=recent.requests,
        span_ms=recent.span_ms,
        on_time_share=recent.on_time_share,
        p50_ms=recent.p50_ms,
        p99_ms=recent.p99_ms,
        refusals=[
            pb.Refusal(
                ago_ms=one.ago_ms,
                outcome=one.outcome,
                reason=one.reason,
                transport=one.transport,
                budget_ms=one.budget_ms,
            )
            for one in recent.refusals
        ],
    )


def frame_error(error: ServeError, *, request_id: str) -> pb.FrameError:
    number, _ = STATUS[type(error)].value
    return pb.FrameError(
        status_code=number,
        reason=code(type(error)).upper(),
        message=str(error),
        request_id=request_id,
        **hints(error),
    )


def status_details(error: ServeError, *, request_id: str) -> bytes:
    """The google.rpc.Status of a failed call, for `grpc-status-details-bin`."""
    number, _ = STATUS[type(error)].value
    found = hints(error)
    info = ErrorInfo(reason=code(type(error)).upper(), domain=DOMAIN)
    info.metadata["request_id"] = request_id
    if "smallest_feasible_budget_ms" in found:
        name = "smallest_feasible_budget_ms"
        info.metadata[name] = str(found[name])
    details: list[ErrorInfo | RetryInfo] = [info]
    if "retry_after_ms" in found:
        delay = Duration()
        delay.FromMicroseconds(round(found["retry_after_ms"] * 1000))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=number, message=str(error))
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def _arm(arm: Arm) -> pb.Arm:
    return pb.Arm(
        id=arm.id,
        variant=arm.variant,
        backend=arm.backend,
        precision=arm.precision,
        device=arm.device,
        accuracy=arm.accuracy,
        simulated=arm.simulated,
        accuracy_taken_over=arm.accuracy_taken_over,
    )
