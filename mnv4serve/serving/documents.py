"""Domain values as the JSON documents of the HTTP interface."""

from mnv4serve.domain import Arm, ArmView, Plan, Reply, Terms
from mnv4serve.errors import ServeError, code
from mnv4serve.serving.frontier import LiveView, PoolView
from mnv4serve.serving.traffic import ArmShare, Recent, Refused
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


def frontier_document(zoo: str, live: LiveView) -> Document:
    recent = live.recent
    return {
        "zoo": zoo,
        "arms": [
            _view(view) | _share(recent.arms.get(view.arm.id), some=bool(recent.arms))
            for view in live.arms
        ],
        "pools": [_pool(pool) for pool in live.pools],
        "recent": _recent(recent),
    }


def readiness_document(live: LiveView) -> Document:
    """The devices that take work; a simulated one says so, a hot one how hot."""
    return {"state": "ready", "devices": [_device(pool) for pool in live.pools]}


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
    remarks = {"simulated": arm.simulated, "accuracy_taken_over": arm.accuracy_taken_over}
    return document | {name: True for name, holds in remarks.items() if holds}


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


def _share(share: ArmShare | None, *, some: bool) -> Document:
    """Without any answer at all no share is known; without one of its own, none is on time."""
    if share is None:
        return {"traffic_share": 0.0 if some else None, "on_time_share": None}
    return {
        "traffic_share": round(share.traffic_share, 4),
        "on_time_share": round(share.on_time_share, 4),
    }


def _pool(pool: PoolView) -> Document:
    return {
        "device": pool.device,
        "slots": pool.slots,
        "running": pool.running,
        "queue_depth": pool.queue_depth,
        "slowdown": round(pool.slowdown, 4),
    }


def _device(pool: PoolView) -> Document:
    document: Document = {"device": pool.device}
    if pool.simulated:
        document["simulated"] = True
    if pool.heat is not None:
        document["celsius"] = pool.heat.celsius
        document["clock_ratio"] = pool.heat.clock_ratio
    return document


def _recent(recent: Recent) -> Document:
    return {
        "requests": recent.requests,
        "span_ms": round(recent.span_ms, 1),
        "on_time_share": recent.on_time_share,
        "p50_ms": recent.p50_ms,
        "p99_ms": recent.p99_ms,
        "refusals": [_refused(one) for one in recent.refusals],
    }


def _refused(one: Refused) -> Document:
    return {
        "ago_ms": round(one.ago_ms, 1),
        "outcome": one.outcome,
        "reason": one.reason,
        "transport": one.transport,
        "budget_ms": one.budget_ms,
    }
