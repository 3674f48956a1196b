"""A gateway with the real router and pools on backends that do what a test tells them."""

import io
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnv4serve.catalog import Preprocessing
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import (
    Arm,
    ArmView,
    BackendName,
    Call,
    Precision,
    Served,
    Terms,
    Timing,
    Transport,
)
from mnv4serve.router import planner
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.router.planner import Rules
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.policy import Policy
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger
from mnv4serve.serving.gateway import Gateway
from mnv4serve.serving.pool import STUCK_MS, Pool, Resident
from mnv4serve.serving.site import Assembled
from mnv4serve.serving.slot import decoder, now_ms

LABELS = ("tench", "golf ball", "parachute")
PREPROCESSING = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FAST = Arm("small@32", BackendName.CPU, Precision.FP32, "cpu", 32, accuracy=0.7)
GOOD = Arm("large@64", BackendName.CPU, Precision.FP32, "cpu", 64, accuracy=0.9)
OTHER = Arm("small@32", BackendName.ONNX, Precision.FP32, "cpu", 32, accuracy=0.71)


class FakeBackend:
    """Answers label 1 after `delay_ms`, waits while `gate` is closed, raises `error` if given."""

    def __init__(self, delay_ms: float = 0.0, error: Exception | None = None) -> None:
        self.delay_ms = delay_ms
        self.error = error
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0
        self.closed = False

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        del slot
        self.calls += 1
        assert self.gate.wait(timeout=10)
        time.sleep(self.delay_ms / 1000)
        if self.error is not None:
            raise self.error
        return np.tile(np.array([0.0, 5.0, 1.0], np.float32), (len(pixels), 1))

    def close(self) -> None:
        self.closed = True


@dataclass
class Rig:
    """A gateway that is ready, with everything behind it in reach."""

    gateway: Gateway
    pool: Pool
    backends: Mapping[str, FakeBackend]
    served: list[Served] = field(default_factory=list)


def jpeg(width: int = 96, height: int = 64) -> bytes:
    """A small photo-like JPEG."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def call(image: bytes | None = None, terms: Terms | None = None) -> Call:
    """A request as a transport hands it over, received now."""
    return Call(
        jpeg() if image is None else image,
        terms or Terms(budget_ms=10_000, top_k=3),
        Transport.HTTP,
        "request-1",
        now_ms(),
    )


def make_pool(
    arms: Mapping[Arm, Mapping[int, float]],
    *,
    lock: threading.Lock,
    slots: int = 1,
    config: ServiceConfig | None = None,
    policy: Policy | None = None,
    stuck_ms: float = STUCK_MS,
) -> tuple[Pool, dict[str, FakeBackend]]:
    """A pool of `arms` with the milliseconds that each is profiled at, by batch size."""
    config = config or ServiceConfig()
    timings = {
        arm.id: {size: Timing(ms, ms * 1.05, ms * 1.1, 50) for size, ms in by_batch.items()}
        for arm, by_batch in arms.items()
    }
    backends = {arm.id: FakeBackend() for arm in arms}
    routing = planner.Pool(
        next(iter(arms)).device,
        tuple(arms),
        Predictor(timings=timings, decode=DecodeCost(0.5, 0, 0, 0, 0), reply_ms=0.1),
        Ledger(slots=slots, max_queue=config.max_queue),
        policy or Priced(),
    )
    pool = Pool(
        routing,
        residents=[Resident(arm, backends[arm.id]) for arm in arms],
        rules=Rules(config.on_time_target, config.late_limit_ms),
        lock=lock,
        stuck_ms=stuck_ms,
    )
    return pool, backends


def make_gateway(
    pools: Sequence[Pool],
    served: list[Served],
    *,
    lock: threading.Lock,
    config: ServiceConfig | None = None,
    opened: bool = True,
) -> Gateway:
    """A gateway over pools; must run on an event loop."""
    gateway = Gateway(
        config=config or ServiceConfig(),
        zoo_name="test",
        labels=LABELS,
        observe=served.append,
        metrics_text=lambda: b"",
    )
    views = tuple(
        ArmView(arm, 1.0, None, None, resident=True, on_frontier=True)
        for pool in pools
        for arm in pool.routing.arms
    )
    if opened:
        gateway.open(Assembled(tuple(pools), views, decoder(PREPROCESSING), lock))
    return gateway


def rig(
    arms: Mapping[Arm, float] | None = None,
    *,
    slots: int = 1,
    config: ServiceConfig | None = None,
    opened: bool = True,
) -> Rig:
    """One pool of `arms` with the milliseconds that each is profiled at, and a gateway."""
    profiled_ms = arms or {FAST: 1.0, GOOD: 5.0}
    lock = threading.Lock()
    pool, backends = make_pool(
        {arm: {1: ms} for arm, ms in profiled_ms.items()}, lock=lock, slots=slots, config=config
    )
    served: list[Served] = []
    gateway = make_gateway([pool], served, lock=lock, config=config, opened=opened)
    return Rig(gateway, pool, backends, served)
