from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnMiss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_MISS_UNSPECIFIED: _ClassVar[OnMiss]
    ON_MISS_DEGRADE: _ClassVar[OnMiss]
    ON_MISS_REFUSE: _ClassVar[OnMiss]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_MOST_ACCURATE_ON_TIME: _ClassVar[Reason]
    REASON_PRICED_DOWN: _ClassVar[Reason]
    REASON_PINNED: _ClassVar[Reason]
    REASON_FLOOR: _ClassVar[Reason]
    REASON_DEGRADED: _ClassVar[Reason]
    REASON_REBOUND: _ClassVar[Reason]
ON_MISS_UNSPECIFIED: OnMiss
ON_MISS_DEGRADE: OnMiss
ON_MISS_REFUSE: OnMiss
REASON_UNSPECIFIED: Reason
REASON_MOST_ACCURATE_ON_TIME: Reason
REASON_PRICED_DOWN: Reason
REASON_PINNED: Reason
REASON_FLOOR: Reason
REASON_DEGRADED: Reason
REASON_REBOUND: Reason

class ClassifyRequest(_message.Message):
    __slots__ = ("image", "budget_ms", "top_k", "min_accuracy", "variant", "backend", "on_miss", "request_id")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ON_MISS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    budget_ms: float
    top_k: int
    min_accuracy: float
    variant: str
    backend: str
    on_miss: OnMiss
    request_id: str
    def __init__(self, image: _Optional[bytes] = ..., budget_ms: _Optional[float] = ..., top_k: _Optional[int] = ..., min_accuracy: _Optional[float] = ..., variant: _Optional[str] = ..., backend: _Optional[str] = ..., on_miss: _Optional[_Union[OnMiss, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "index", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    index: int
    probability: float
    def __init__(self, label: _Optional[str] = ..., index: _Optional[int] = ..., probability: _Optional[float] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("id", "variant", "backend", "precision", "device", "accuracy", "simulated", "accuracy_taken_over")
    ID_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_TAKEN_OVER_FIELD_NUMBER: _ClassVar[int]
    id: str
    variant: str
    backend: str
    precision: str
    device: str
    accuracy: float
    simulated: bool
    accuracy_taken_over: bool
    def __init__(self, id: _Optional[str] = ..., variant: _Optional[str] = ..., backend: _Optional[str] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., accuracy: _Optional[float] = ..., simulated: _Optional[bool] = ..., accuracy_taken_over: _Optional[bool] = ...) -> None: ...

class Latency(_message.Message):
    __slots__ = ("total_ms", "wait_ms", "decode_ms", "service_ms", "predicted_ms")
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_MS_FIELD_NUMBER: _ClassVar[int]
    total_ms: float
    wait_ms: float
    decode_ms: float
    service_ms: float
    predicted_ms: float
    def __init__(self, total_ms: _Optional[float] = ..., wait_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., service_ms: _Optional[float] = ..., predicted_ms: _Optional[float] = ...) -> None: ...

class ClassifyReply(_message.Message):
    __slots__ = ("predictions", "zoo", "arm", "budget_ms", "on_time", "latency", "reason", "on_time_probability", "request_id")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    ZOO_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    ON_TIME_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ON_TIME_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    zoo: str
    arm: Arm
    budget_ms: float
    on_time: bool
    latency: Latency
    reason: Reason
    on_time_probability: float
    request_id: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., zoo: _Optional[str] = ..., arm: _Optional[_Union[Arm, _Mapping]] = ..., budget_ms: _Optional[float] = ..., on_time: _Optional[bool] = ..., latency: _Optional[_Union[Latency, _Mapping]] = ..., reason: _Optional[_Union[Reason, str]] = ..., on_time_probability: _Optional[float] = ..., request_id: _Optional[str] = ...) -> None: ...

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("frame_id", "request")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    request: ClassifyRequest
    def __init__(self, frame_id: _Optional[int] = ..., request: _Optional[_Union[ClassifyRequest, _Mapping]] = ...) -> None: ...

class ClassifyStreamReply(_message.Message):
    __slots__ = ("frame_id", "reply", "error")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    reply: ClassifyReply
    error: FrameError
    def __init__(self, frame_id: _Optional[int] = ..., reply: _Optional[_Union[ClassifyReply, _Mapping]] = ..., error: _Optional[_Union[FrameError, _Mapping]] = ...) -> None: ...

class FrameError(_message.Message):
    __slots__ = ("status_code", "reason", "message", "smallest_feasible_budget_ms", "retry_after_ms", "request_id")
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SMALLEST_FEASIBLE_BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    status_code: int
    reason: str
    message: str
    smallest_feasible_budget_ms: float
    retry_after_ms: float
    request_id: str
    def __init__(self, status_code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., smallest_feasible_budget_ms: _Optional[float] = ..., retry_after_ms: _Optional[float] = ..., request_id: _Optional[str] = ...) -> None: ...

class PlanReply(_message.Message):
    __slots__ = ("arm", "budget_ms", "predicted_ms", "wait_ms", "decode_ms", "service_ms", "hop_ms", "reply_ms", "on_time_probability", "reason", "request_id")
    ARM_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_MS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MS_FIELD_NUMBER: _ClassVar[int]
    HOP_MS_FIELD_NUMBER: _ClassVar[int]
    REPLY_MS_FIELD_NUMBER: _ClassVar[int]
    ON_TIME_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    arm: Arm
    budget_ms: float
    predicted_ms: float
    wait_ms: float
    decode_ms: float
    service_ms: float
    hop_ms: float
    reply_ms: float
    on_time_probability: float
    reason: Reason
    request_id: str
    def __init__(self, arm: _Optional[_Union[Arm, _Mapping]] = ..., budget_ms: _Optional[float] = ..., predicted_ms: _Optional[float] = ..., wait_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., service_ms: _Optional[float] = ..., hop_ms: _Optional[float] = ..., reply_ms: _Optional[float] = ..., on_time_probability: _Optional[float] = ..., reason: _Optional[_Union[Reason, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetFrontierRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFrontierReply(_message.Message):
    __slots__ = ("zoo", "arms", "pools", "recent")
    ZOO_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    zoo: str
    arms: _containers.RepeatedCompositeFieldContainer[ArmView]
    pools: _containers.RepeatedCompositeFieldContainer[PoolView]
    recent: RecentTraffic
    def __init__(self, zoo: _Optional[str] = ..., arms: _Optional[_Iterable[_Union[ArmView, _Mapping]]] = ..., pools: _Optional[_Iterable[_Union[PoolView, _Mapping]]] = ..., recent: _Optional[_Union[RecentTraffic, _Mapping]] = ...) -> None: ...

class ArmView(_message.Message):
    __slots__ = ("arm", "p50_ms", "p99_ms", "expected_ms", "resident", "on_frontier", "traffic_share", "on_time_share")
    ARM_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_FIELD_NUMBER: _ClassVar[int]
    ON_FRONTIER_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_SHARE_FIELD_NUMBER: _ClassVar[int]
    ON_TIME_SHARE_FIELD_NUMBER: _ClassVar[int]
    arm: Arm
    p50_ms: float
    p99_ms: float
    expected_ms: float
    resident: bool
    on_frontier: bool
    traffic_share: float
    on_time_share: float
    def __init__(self, arm: _Optional[_Union[Arm, _Mapping]] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., expected_ms: _Optional[float] = ..., resident: _Optional[bool] = ..., on_frontier: _Optional[bool] = ..., traffic_share: _Optional[float] = ..., on_time_share: _Optional[float] = ...) -> None: ...

class PoolView(_message.Message):
    __slots__ = ("device", "slots", "running", "queue_depth", "slowdown")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    SLOWDOWN_FIELD_NUMBER: _ClassVar[int]
    device: str
    slots: int
    running: int
    queue_depth: int
    slowdown: float
    def __init__(self, device: _Optional[str] = ..., slots: _Optional[int] = ..., running: _Optional[int] = ..., queue_depth: _Optional[int] = ..., slowdown: _Optional[float] = ...) -> None: ...

class RecentTraffic(_message.Message):
    __slots__ = ("requests", "span_ms", "on_time_share", "p50_ms", "p99_ms", "refusals")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SPAN_MS_FIELD_NUMBER: _ClassVar[int]
    ON_TIME_SHARE_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    span_ms: float
    on_time_share: float
    p50_ms: float
    p99_ms: float
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, requests: _Optional[int] = ..., span_ms: _Optional[float] = ..., on_time_share: _Optional[float] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("ago_ms", "outcome", "reason", "transport", "budget_ms")
    AGO_MS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_MS_FIELD_NUMBER: _ClassVar[int]
    ago_ms: float
    outcome: str
    reason: str
    transport: str
    budget_ms: float
    def __init__(self, ago_ms: _Optional[float] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ..., transport: _Optional[str] = ..., budget_ms: _Optional[float] = ...) -> None: ...
