"""The OpenAPI document of the HTTP interface, assembled from the tables that the code obeys."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.resources import files

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import BackendName, OnMiss, Outcome, Precision, Reason, Transport
from mnv4serve.errors import Draining, NotReady, ServeError, Unauthorized, code, leaves
from mnv4serve.serving.answers import BLANK, CLIENT_CLOSED_REQUEST, STATUS
from mnv4serve.serving.documents import Document
from mnv4serve.serving.terms import DEFAULT_TOP_K, MAX_BUDGET_MS, MAX_VARIANT_LENGTH

PLANNED = tuple(kind for kind in leaves() if STATUS[kind] != CLIENT_CLOSED_REQUEST)


def docs_page() -> bytes:
    """A page that renders the document and tries requests, without anything from elsewhere."""
    return files("mnv4serve.serving").joinpath("docs.html").read_bytes()


def openapi_document(config: ServiceConfig, *, labels: Sequence[str]) -> Document:
    keyed: list[Document] = [{"apiKey": []}] if config.api_keys else []
    picture = _picture_request(config, n_labels=len(labels))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mnv4serve",
            "version": version("mnv4serve"),
            "summary": "Image classification under a latency budget.",
            "description": "Send a picture and say how long it may take; the most accurate "
            "MobileNetV4 variant that will make it answers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/classify": {
                "post": {
                    "operationId": "classify",
                    "summary": "Classify one picture within its budget.",
                    "security": keyed,
                    **picture,
                    "responses": _responses(_json("The answer.", "Reply"), PLANNED),
                }
            },
            "/plan": {
                "post": {
                    "operationId": "plan",
                    "summary": "What /classify would choose now, without running it.",
                    "security": keyed,
                    **picture,
                    "responses": _responses(_json("The plan.", "Plan"), PLANNED),
                }
            },
            "/frontier": {
                "get": {
                    "operationId": "frontier",
                    "summary": "The arms with their accuracy and their latency now.",
                    "security": keyed,
                    "responses": _responses(_json("The arms.", "Frontier"), (Unauthorized,)),
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Metrics in Prometheus' text format.",
                    "security": keyed,
                    "responses": _responses(_text("The metrics."), (Unauthorized,)),
                }
            },
            "/healthz": _state("healthz", "Whether the process lives.", ()),
            "/readyz": _state("readyz", "Whether it takes work.", (NotReady, Draining)),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }


def _picture_request(config: ServiceConfig, *, n_labels: int) -> Document:
    raw: Document = {"schema": {}}
    limit = f"At most {config.max_body_bytes} bytes."
    image = {"type": "string", "contentEncoding": "base64", "description": "The encoded picture."}
    form: Document = {"contentMediaType": "application/octet-stream"}
    return {
        "parameters": _parameters(config, n_labels=n_labels),
        "requestBody": {
            "required": True,
            "description": f"The encoded picture: JPEG, PNG, WebP, ... {limit}",
            "content": {
                "image/jpeg": raw,
                "image/png": raw,
                "image/*": raw,
                "application/octet-stream": raw,
                "multipart/form-data": {"schema": _object({"image": form})},
                "application/json": {
                    "schema": {**_object({"image": image}), "additionalProperties": False}
                },
            },
        },
    }


def _parameters(config: ServiceConfig, *, n_labels: int) -> list[Document]:
    budget: Document = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_BUDGET_MS}
    return [
        _query(
            "budget_ms",
            "Milliseconds the request may take, from the last byte of its body to the reply.",
            {**budget, "default": config.default_budget_ms},
        ),
        {
            "name": "X-Budget-Ms",
            "in": "header",
            "description": "The same as budget_ms; where both are given they must be equal.",
            "schema": budget,
        },
        _query(
            "top_k",
            "How many labels to return.",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": n_labels,
                "default": min(DEFAULT_TOP_K, n_labels),
            },
        ),
        _query(
            "min_accuracy",
            "Least accuracy of the arm that answers.",
            {"type": "number", "minimum": 0, "maximum": 1},
        ),
        _name(
            "variant",
            "Answer with this variant only, for example conv_small@160.",
            {"type": "string", "maxLength": MAX_VARIANT_LENGTH},
        ),
        _name("backend", "Answer with this backend only.", _enum(BackendName)),
        _name(
            "on_miss",
            "When no arm is likely on time: answer late (degrade) or fail (refuse), at once where "
            "it is more likely late than not.",
            {**_enum(OnMiss), "default": OnMiss.DEGRADE},
        ),
        {
            "name": "X-Request-Id",
            "in": "header",
            "description": "Returned in the reply; one is made up unless it is made of at most "
            "128 letters, digits and ._:/+=@-.",
            "schema": {"type": "string"},
        },
    ]


def _responses(answer: Document, kinds: Sequence[type[ServeError]]) -> Document:
    """The good answer and, by status, the problems that may come instead."""
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    responses: Document = {"200": answer}
    for status in sorted({STATUS[kind] for kind in kinds}):
        titles = [kind.title for kind in kinds if STATUS[kind] == status]
        responses[str(status)] = {"description": f"{', '.join(titles)}.", "content": content}
    return responses


def _state(name: str, summary: str, kinds: Sequence[type[ServeError]]) -> Document:
    responses = _responses(_json("The state.", "State"), kinds)
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


def _schemas() -> Document:
    number: Document = {"type": "number"}
    text: Document = {"type": "string"}
    flag: Document = {"type": "boolean"}
    share: Document = {"type": "number", "minimum": 0, "maximum": 1}
    maybe: Document = {"type": ["number", "null"]}
    maybe_share: Document = {**share, "type": ["number", "null"]}
    arm: Document = {
        "arm": {"type": "string", "description": "variant/backend/precision/device"},
        "variant": text,
        "backend": _enum(BackendName),
        "precision": _enum(Precision),
        "device": text,
        "accuracy": maybe_share,
    }
    choice = _object({"reason": _enum(Reason), "on_time_probability": share})
    prediction = _object({"label": text, "index": {"type": "integer"}, "probability": share})
    common: Document = {"zoo": text, **arm, "budget_ms": number, "plan": choice, "request_id": text}
    stages = ("wait", "decode", "service", "predicted")
    view = {**arm, "p50_ms": number, "p99_ms": maybe, "expected_ms": maybe}
    remarks: Document = {"simulated": flag, "accuracy_taken_over": flag}
    shares: Document = {"traffic_share": maybe_share, "on_time_share": maybe_share}
    return {
        "Reply": _object(
            {
                "predictions": {"type": "array", "items": prediction},
                **common,
                "on_time": flag,
                "latency_ms": _object(dict.fromkeys(("total", *stages), number)),
            },
            optional=remarks,
        ),
        "Plan": _object(
            {**common, "latency_ms": _object(dict.fromkeys((*stages, "hop", "reply"), number))},
            optional=remarks,
        ),
        "Frontier": _object(
            {
                "zoo": text,
                "arms": {
                    "type": "array",
                    "items": _object(
                        {**view, "resident": flag, "on_frontier": flag, **shares},
                        optional=remarks,
                    ),
                },
                "pools": {"type": "array", "items": _pool_schema()},
                "recent": _recent_schema(maybe, maybe_share),
            }
        ),
        "State": _object({"state": text}),
        "Problem": _object(
            {
                "type": _enum([BLANK, *(f"/problems/{code(kind)}" for kind in leaves())]),
                "title": text,
                "status": {"type": "integer"},
                "detail": text,
                "instance": text,
                "request_id": text,
            },
            optional={"smallest_feasible_budget_ms": number, "retry_after_ms": number},
        ),
    }


def _pool_schema() -> Document:
    count: Document = {"type": "integer", "minimum": 0}
    counts = dict.fromkeys(("slots", "running", "queue_depth"), count)
    return _object({"device": {"type": "string"}, **counts, "slowdown": {"type": "number"}})


def _recent_schema(maybe: Document, maybe_share: Document) -> Document:
    number: Document = {"type": "number"}
    refusal = {
        "ago_ms": number,
        "outcome": _enum(Outcome),
        "reason": {"type": "string"},
        "transport": _enum(Transport),
        "budget_ms": number,
    }
    return _object(
        {
            "requests": {"type": "integer", "minimum": 0},
            "span_ms": number,
            "on_time_share": maybe_share,
            "p50_ms": maybe,
            "p99_ms": maybe,
            "refusals": {"type": "array", "items": _object(refusal)},
        }
    )


def _object(required: Document, *, optional: Document | None = None) -> Document:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _enum(values: Iterable[str]) -> Document:
    return {"type": "string", "enum": [str(value) for value in values]}


def _query(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _name(name: str, description: str, schema: Document) -> Document:
    """A parameter that, left empty, counts as left out."""
    return {**_query(name, description, schema), "allowEmptyValue": True}


def _json(description: str, schema: str) -> Document:
    content = {"application/json": {"schema": _ref(schema)}}
    return {"description": description, "content": content}


def _text(description: str) -> Document:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _ref(schema: str) -> Document:
    return {"$ref": f"#/components/schemas/{schema}"}
