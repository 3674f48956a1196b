"""What a profile says of runs before any has been seen."""

from bisect import bisect_left
from collections.abc import Mapping

from mnv4serve.domain import Timing
from mnv4serve.router.learning import LONG

JITTER_MS = 1.0
"""Added to both sides of every ratio of durations, because a host's jitter is additive: 0.3 ms is
usual whether a run takes 2 ms or 20, and must not count as 15 % for all of them."""
_KNOTS = (0.0, 0.5, 0.9, 0.99, 1.0)
_GOLDEN = 0.6180339887498949
_GAIN = 0.95
"""Of the time that pictures take one by one, a batch has to take less than this to count."""


def worthwhile_batches(timings: Mapping[str, Mapping[int, Timing]]) -> tuple[int, ...]:
    """Sizes at which some arm was measured to take less time for each picture."""
    return tuple(
        sorted(
            {
                size
                for by_batch in timings.values()
                for size, timing in by_batch.items()
                if 1 in by_batch and size > 1 and timing.p50_ms < _GAIN * size * by_batch[1].p50_ms
            }
        )
    )


def prior_ratios(timings: Mapping[str, Mapping[int, Timing]]) -> list[float]:
    """Ratios as spread as the profile's own, every arm in turn."""
    spreads = [_spread(by_batch[min(by_batch)]) for by_batch in timings.values()] or [(1.0, 1.0)]
    return [
        _ratio_at((index + 0.5) * _GOLDEN % 1.0, *spreads[index % len(spreads)])
        for index in range(LONG)
    ]


def _spread(timing: Timing) -> tuple[float, float]:
    """90th and 99th percentile over the median, within what is worth believing beforehand.

    Decoding varies more than inference does, and a profile may have been taken on a busy host.
    """
    p99_ms = timing.p90_ms + 2.0 * (timing.p90_ms - timing.p50_ms)
    if timing.p99_ms is not None:
        p99_ms = timing.p99_ms
    median_ms = timing.p50_ms + JITTER_MS
    p90 = min(max((timing.p90_ms + JITTER_MS) / median_ms, 1.08), 1.25)
    p99 = min(max((p99_ms + JITTER_MS) / median_ms, p90 + 0.12), 1.75)
    return p90, p99


def _ratio_at(share: float, p90: float, p99: float) -> float:
    """A quantile, linear between those that are known; runs rarely beat the median by much."""
    ratios = (1.5 - 0.5 * p90, 1.0, p90, p99, p99 + (p99 - p90) / 9.0)
    right = max(1, bisect_left(_KNOTS, share))
    part = (share - _KNOTS[right - 1]) / (_KNOTS[right] - _KNOTS[right - 1])
    return ratios[right - 1] + (ratios[right] - ratios[right - 1]) * part
