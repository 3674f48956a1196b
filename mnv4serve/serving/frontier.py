"""The frontier as it is now: stored service times beside what a typical photo would see."""

from collections.abc import Sequence
from dataclasses import replace

from mnv4serve.domain import ArmView, Picture
from mnv4serve.router import planner
from mnv4serve.router.frontier import Point, frontier

TYPICAL = Picture("JPEG", width=500, height=375, n_bytes=100_000)
"""The picture that expected latencies are told for."""


def live_views(
    views: Sequence[ArmView], pools: Sequence[planner.Pool], *, now_ms: float
) -> list[ArmView]:
    """Every profiled arm; the resident ones with their expected latency, which ranks them."""
    expected = dict(pair for pool in pools for pair in _expected_ms(pool, now_ms=now_ms))
    arms = [view.arm for view in views if view.arm.id in expected]
    best = {arm.id for arm in frontier(Point(arm, expected[arm.id]) for arm in arms)}
    return [
        replace(
            view,
            expected_ms=expected.get(view.arm.id),
            resident=view.arm.id in expected,
            on_frontier=view.arm.id in best,
        )
        for view in views
    ]


def _expected_ms(pool: planner.Pool, *, now_ms: float) -> list[tuple[str, float]]:
    wait_ms = pool.ledger.wait_ms(now_ms, float("inf"))
    return [
        (arm.id, pool.predictor.expect(arm, TYPICAL, wait_ms=wait_ms).total_ms) for arm in pool.arms
    ]
