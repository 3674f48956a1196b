"""Domain values as the JSON documents of the HTTP interface."""

from collections.abc import Sequence

from mnv4serve.domain import Arm, ArmView, Plan, Reply, Terms
from mnv4serve.errors import ServeError, code
from mnv4serve.serving.wire import hints

Document = dict[str, object]


def reply_document(reply: Reply) -> Document:
    plan, stages = reply.plan, reply.stages
    return {
        "predictions": [
            {"label": p.label, "index": p.index, "probability": round(p.probability, 6)}
            for p in reply.predictions
        ],
        "zoo": reply.zoo,
        **_arm(plan.arm),
        "budget_ms": reply.terms.budget_ms,
        "on_time": reply.on_time,
        "latency_ms": {
            "total": round(stages.total_ms, 3),
            "wait": round(stages.wait_ms, 3),
            "decode": round(stages.decode_ms, 3),
            "service": round(stages.service_ms, 3),
            "predicted": round(plan.predicted_ms, 3),
        },
        "plan": _choice(plan),
        "request_id": reply.request_id,
    }


def plan_document(plan: Plan, *, zoo: str, terms: Terms, request_id: str) -> Document:
    return {
        "zoo": zoo,
        **_arm(plan.arm),
        "budget_ms": terms.budget_ms,
        "latency_ms": {
            "predicted": round(plan.predicted_ms, 3),
            "wait": round(plan.wait_ms, 3),
            "decode": round(plan.decode_ms, 3),
            "service": round(plan.service_ms, 3),
            "hop": round(plan.hop_ms, 3),
            "reply": round(plan.reply_ms, 3),
        },
        "plan": _choice(plan),
        "request_id": request_id,
    }


def frontier_document(zoo: str, views: Sequence[ArmView]) -> Document:
    return {"zoo": zoo, "arms": [_view(view) for view in views]}


def problem_document(error: ServeError, *, status: int, instance: str, request_id: str) -> Document:
    """RFC 9457 problem details; `type` is a reference that the service itself explains."""
    return {
        "type": f"/problems/{code(type(error))}",
        "title": error.title,
        "status": status,
        "detail": str(error),
        "instance": instance,
        "request_id": request_id,
        **hints(error),
    }


def _arm(arm: Arm) -> Document:
    document: Document = {
        "arm": arm.id,
        "variant": arm.variant,
        "backend": arm.backend,
        "precision": arm.precision,
        "device": arm.device,
        "accuracy": arm.accuracy,
    }
    return {**document, "simulated": True} if arm.simulated else document


def _choice(plan: Plan) -> Document:
    return {"reason": plan.reason, "on_time_probability": round(plan.on_time_probability, 6)}


def _view(view: ArmView) -> Document:
    return {
        **_arm(view.arm),
        "p50_ms": view.p50_ms,
        "p99_ms": view.p99_ms,
        "expected_ms": view.expected_ms,
        "resident": view.resident,
        "on_frontier": view.on_frontier,
    }
