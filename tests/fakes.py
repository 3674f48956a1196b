"""Stand-ins for what a test does not want to run for real."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mnv4serve.config import ServiceConfig
from mnv4serve.domain import (
    Arm,
    ArmView,
    BackendName,
    Call,
    Outcome,
    Plan,
    Precision,
    Prediction,
    Reason,
    Reply,
    Stages,
    Transport,
)
from mnv4serve.errors import Busy, Infeasible, ServeError, code
from mnv4serve.serving.frontier import LiveView, PoolView
from mnv4serve.serving.traffic import ArmShare, Recent, Refused
from mnv4serve.serving.wire import State

ARM = Arm("conv_small@224", BackendName.CPU, Precision.BF16, "cpu", resolution=224, accuracy=0.8712)
UNCERTIFIED = Arm(
    "conv_medium@256", BackendName.ONNX, Precision.FP32, "edgetpu:0", resolution=256, simulated=True
)
PLAN = Plan(
    arm=ARM,
    predicted_ms=3.25,
    wait_ms=0.5,
    decode_ms=1.25,
    service_ms=1.125,
    hop_ms=0.0,
    reply_ms=0.375,
    on_time_probability=0.984375,
    reason=Reason.MOST_ACCURATE_ON_TIME,
)
VIEWS = (
    ArmView(ARM, p50_ms=1.125, p99_ms=1.5, expected_ms=3.25, resident=True, on_frontier=True),
    ArmView(
        UNCERTIFIED, p50_ms=16.5, p99_ms=None, expected_ms=None, resident=False, on_frontier=False
    ),
)
LIVE = LiveView(
    arms=VIEWS,
    pools=(PoolView("cpu", slots=2, running=1, queue_depth=3, slowdown=1.25),),
    recent=Recent(
        requests=8,
        span_ms=1500.0,
        on_time_share=0.75,
        p50_ms=3.5,
        p99_ms=9.25,
        arms={ARM.id: ArmShare(traffic_share=1.0, on_time_share=0.875)},
        refusals=(Refused(250.0, Outcome.REFUSED, "busy", Transport.GRPC, 5.0),),
    ),
)
LABELS = ("tench", "dog", "cassette player", "chain saw", "church", "horn", "golf ball")
NOT_A_PICTURE = b"this is no picture"


def error_of(kind: type[ServeError]) -> ServeError:
    """One error of each class, made the way that class wants it."""
    message = f"the sentence of {code(kind)}, naïve"
    if issubclass(kind, Busy):
        return kind(message, smallest_feasible_budget_ms=12.5, retry_after_ms=1500.0)
    if issubclass(kind, Infeasible):
        return kind(message, smallest_feasible_budget_ms=12.5)
    return kind(message)


async def eventually(holds: Callable[[], bool]) -> None:
    """Returns once something holds, and fails the test where it never does."""
    for _ in range(5000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to hold")


@dataclass
class FakeGateway:
    """Answers every call at once with the same plan, and remembers what it was asked."""

    config: ServiceConfig = field(default_factory=ServiceConfig)
    zoo_name: str = "imagenette"
    labels: Sequence[str] = LABELS
    state: State = "ready"
    not_ready_reason: str = ""
    fails: BaseException | None = None
    failures_left: int = -1
    """How many calls still fail; negative for all of them."""
    blocks: bool = False
    calls: list[Call] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    rejected: list[tuple[Transport, str, ServeError]] = field(default_factory=list)
    replies: list[tuple[Reply, Transport, float]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a call was cancelled, rejected or replied to."""

    async def classify(self, call: Call) -> Reply:
        self.calls.append(call)
        self.started.set()
        if self.fails is not None and self.failures_left != 0:
            self.failures_left -= 1
            raise self.fails
        if self.blocks:
            await self._until_cancelled(call)
        top = [Prediction(label, index, 0.75 / 2**index) for index, label in enumerate(self.labels)]
        stages = Stages(wait_ms=0.5, decode_ms=1.25, service_ms=1.125, total_ms=2.875)
        return Reply(
            request_id=call.request_id,
            zoo=self.zoo_name,
            terms=call.terms,
            plan=PLAN,
            stages=stages,
            on_time=call.terms.budget_ms >= stages.total_ms,
            predictions=tuple(top[: call.terms.top_k]),
            received_ms=call.received_ms,
        )

    async def _until_cancelled(self, call: Call) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(call.request_id)
            self.finished.set()
            raise

    def plan(self, call: Call) -> Plan:
        self.calls.append(call)
        if self.fails is not None:
            raise self.fails
        return PLAN

    def frontier(self) -> LiveView:
        return LIVE

    def reject(self, transport: Transport, request_id: str, error: ServeError) -> None:
        self.rejected.append((transport, request_id, error))
        self.finished.set()

    def replied(self, reply: Reply, transport: Transport, handed_over_ms: float) -> None:
        self.replies.append((reply, transport, handed_over_ms))
        self.finished.set()

    def metrics_text(self) -> bytes:
        return b"# TYPE mnv4serve_build_info gauge\nmnv4serve_build_info 1.0\n"
