"""The service as it is now: arms with what a typical photo would see, pools, recent traffic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from mnv4serve.backends import Thermometer
from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.domain import ArmView, Picture
from mnv4serve.router import planner
from mnv4serve.router.frontier import Point, frontier
from mnv4serve.serving.site import PoolLike
from mnv4serve.serving.traffic import Recent

TYPICAL = Picture("JPEG", width=500, height=375, n_bytes=100_000)
"""The picture that expected latencies are told for."""


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at this moment."""

    device: str
    slots: int
    running: int
    queue_depth: int
    slowdown: float
    """Service time now over profiled."""
    simulated: bool = False
    heat: Heat | None = None
    """Where its hardware shows how hot it is."""


@dataclass(frozen=True, slots=True)
class LiveView:
    """What `GET /frontier` and `GetFrontier` tell."""

    arms: tuple[ArmView, ...]
    pools: tuple[PoolView, ...]
    recent: Recent


def live_views(
    views: Sequence[ArmView], pools: Sequence[planner.Pool], *, now_ms: float
) -> tuple[ArmView, ...]:
    """Every profiled arm; the resident ones with their expected latency, which ranks them."""
    expected = dict(pair for pool in pools for pair in _expected_ms(pool, now_ms=now_ms))
    arms = [view.arm for view in views if view.arm.id in expected]
    best = {arm.id for arm in frontier(Point(arm, expected[arm.id]) for arm in arms)}
    return tuple(
        replace(
            view,
            expected_ms=expected.get(view.arm.id),
            resident=view.arm.id in expected,
            on_frontier=view.arm.id in best,
        )
        for view in views
    )


def pool_views(pools: Sequence[PoolLike]) -> tuple[PoolView, ...]:
    """How busy each pool is, and how much slower than when it was profiled."""
    return tuple(_pool_view(pool.routing, pool.thermometer) for pool in pools)


def _pool_view(pool: planner.Pool, thermometer: Thermometer | None) -> PoolView:
    return PoolView(
        device=pool.device,
        slots=pool.ledger.slots,
        running=len(pool.ledger.running),
        queue_depth=pool.ledger.depth,
        slowdown=pool.predictor.slowdown,
        simulated=any(arm.simulated for arm in pool.arms),
        heat=thermometer() if thermometer else None,
    )


def _expected_ms(pool: planner.Pool, *, now_ms: float) -> list[tuple[str, float]]:
    wait_ms = pool.ledger.wait_ms(now_ms, inf)
    expected = []
    for arm in pool.arms:
        switch_ms = pool.ledger.switch_ms(arm.id, inf)
        run = pool.predictor.expect(arm, TYPICAL, wait_ms=wait_ms, switch_ms=switch_ms)
        expected.append((arm.id, run.total_ms))
    return expected
