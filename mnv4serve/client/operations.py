"""The three things a client can ask, with their form on both protocols."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mnv4serve.client.messages import frontier_from_message, plan_from_message, reply_from_message
from mnv4serve.client.values import (
    Asked,
    Frontier,
    Json,
    Plan,
    Reply,
    frontier_from_json,
    plan_from_json,
    reply_from_json,
)
from mnv4serve.v1 import classifier_pb2 as pb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One thing to ask for."""

    verb: str
    path: str
    from_json: Callable[[Json], T]
    rpc: str
    decode: Callable[[bytes], Any]
    from_message: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One operation on one picture, with how long the transport may take."""

    operation: Operation[T]
    image: bytes
    asked: Asked
    timeout_s: float


CLASSIFY: Operation[Reply] = Operation(
    "POST",
    "/classify",
    reply_from_json,
    "/mnv4serve.v1.Classifier/Classify",
    pb.ClassifyReply.FromString,
    reply_from_message,
)
PLAN: Operation[Plan] = Operation(
    "POST",
    "/plan",
    plan_from_json,
    "/mnv4serve.v1.Classifier/Plan",
    pb.PlanReply.FromString,
    plan_from_message,
)
FRONTIER: Operation[Frontier] = Operation(
    "GET",
    "/frontier",
    frontier_from_json,
    "/mnv4serve.v1.Classifier/GetFrontier",
    pb.GetFrontierReply.FromString,
    frontier_from_message,
)
