"""Which arms are worth having: the frontier over latency and accuracy, and the resident set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm, Timing
from mnv4serve.router.prior import worthwhile_batches

FAR = 2.0
"""Times as fast: what is learnt of single arms while serving does not turn that round."""


@dataclass(frozen=True, slots=True)
class Point:
    """An arm and the latency to judge it by."""

    arm: Arm
    latency_ms: float


def frontier(points: Iterable[Point]) -> tuple[Arm, ...]:
    """Arms that no other beats on both latency and accuracy, fastest first.

    Equals on both stay side by side; an arm of unknown accuracy cannot be on it, nor one that was
    not shown to be more accurate than a faster one.
    """
    return tuple(point.arm for point in _frontier(points))


def resident_set(
    points: Sequence[Point],
    *,
    max_arms: int,
    memory_limit_bytes: int,
    sizes: Mapping[str, int],
) -> tuple[Arm, ...]:
    """The arms to keep loaded, in order of worth, as many as fit; `sizes` are bytes by arm id.

    The fastest, then the frontier by the accuracy each of its arms adds, then for each backend and
    each variant the arm nearest to the frontier, or a tied one that is as accurate and faster (so
    that pins find one), then the rest by their distance from it, those that are tied to a faster
    arm after the others; arms of unknown accuracy last.
    """
    chosen: list[Arm] = []
    free_bytes = memory_limit_bytes
    for arm in _by_worth(points):
        if len(chosen) == max_arms:
            break
        if sizes[arm.id] <= free_bytes:
            chosen.append(arm)
            free_bytes -= sizes[arm.id]
    return tuple(chosen)


def contenders(arms: Sequence[Arm], timings: Mapping[str, Mapping[int, Timing]]) -> tuple[Arm, ...]:
    """The arms that may ever be the best choice where nothing is pinned, in their order.

    Left out are those beside which another, at least as accurate on a picture no larger, is far
    faster at whatever was measured of both: they would only make every decision take longer.
    """
    sizes = (1, *worthwhile_batches(timings))
    durations_ms = {
        arm.id: [timings[arm.id][n].p50_ms for n in sizes if n in timings[arm.id]] for arm in arms
    }
    return tuple(
        arm for arm in arms if not any(_outclasses(one, arm, durations_ms) for one in arms)
    )


def _outclasses(one: Arm, other: Arm, durations_ms: Mapping[str, Sequence[float]]) -> bool:
    if one.accuracy is None or other.accuracy is None or one.tied_to:
        return False
    mine, theirs = durations_ms[one.id], durations_ms[other.id]
    faster = len(mine) >= len(theirs) and all(
        own_ms * FAR <= ms for own_ms, ms in zip(mine, theirs, strict=False)
    )
    return faster and one.accuracy >= other.accuracy and one.resolution <= other.resolution


def _known(points: Iterable[Point]) -> list[tuple[float, float, Point]]:
    """Accuracy, latency and point, fastest first and the most accurate of equally fast ones."""
    known = [(p.arm.accuracy, p.latency_ms, p) for p in points if p.arm.accuracy is not None]
    return sorted(known, key=lambda entry: (entry[1], -entry[0], entry[2].arm.id))


def _frontier(points: Iterable[Point]) -> list[Point]:
    best: list[tuple[float, float, Point]] = []
    for entry in _known(point for point in points if not point.arm.tied_to):
        if not best or entry[0] > best[-1][0] or entry[:2] == best[-1][:2]:
            best.append(entry)
    return [point for _, _, point in best]


def _by_worth(points: Sequence[Point]) -> list[Arm]:
    losses = _losses(points)
    near = [point for _, point in sorted(losses, key=_nearest_first)]
    unknown = sorted(
        (p for p in points if p.arm.accuracy is None), key=lambda p: (p.latency_ms, p.arm.id)
    )
    order = [
        *(point.arm for _, point in losses[:1]),
        *_by_gain(_frontier(points)),
        *_for_pins([point.arm.backend for point in near], near),
        *_for_pins([point.arm.variant for point in near], near),
        *(point.arm for point in near),
        *(point.arm for point in unknown),
    ]
    return list({arm.id: arm for arm in order}.values())


def _nearest_first(entry: tuple[float, Point]) -> tuple[bool, float, float, str]:
    loss, point = entry
    return bool(point.arm.tied_to), loss, point.latency_ms, point.arm.id


def _losses(points: Iterable[Point]) -> list[tuple[float, Point]]:
    """The accuracy that each arm lacks to the best that is as fast, fastest first."""
    losses = []
    best = 0.0
    for accuracy, _, point in _known(points):
        best = best if point.arm.tied_to else max(best, accuracy)
        losses.append((max(0.0, best - accuracy), point))
    return losses


def _by_gain(points: Sequence[Point]) -> list[Arm]:
    """The most accurate first, then by what each adds to the next faster one."""
    accuracies = [point.arm.accuracy or 0.0 for point in points]
    gains = [after - before for before, after in zip([0.0, *accuracies], accuracies, strict=False)]
    if gains:
        gains[-1] = 1.0
    ranked = sorted(zip(gains, points, strict=True), key=lambda pair: -pair[0])
    return [point.arm for _, point in ranked]


def _for_pins(keys: Sequence[str], near: Sequence[Point]) -> list[Arm]:
    """For each key the fastest that is as accurate as the first one."""
    by_key: dict[str, list[Point]] = {}
    for key, point in zip(keys, near, strict=True):
        by_key.setdefault(key, []).append(point)
    return [_fastest_as_accurate(points).arm for points in by_key.values()]


def _fastest_as_accurate(points: Sequence[Point]) -> Point:
    least = points[0].arm.accuracy or 0.0
    good = [point for point in points if (point.arm.accuracy or 0.0) >= least]
    return min(good, key=lambda point: point.latency_ms)
