"""Which arms are proven: the walk up the frontier, each step a test on the same pictures.

Figures of accuracy are measured on a few thousand pictures, so some arms look better than a faster
one by chance. Walking from the fastest arm to the slowest, an arm joins only where it is shown to
be more accurate than the last that joined; one that merely looks so is tied to that one.

The dev split proposes who walks, the held-out pictures decide: one-sided, because a slower arm
that is worse never joins and so nothing is claimed in the other direction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnv4serve.significance import ALPHA, holm, mcnemar


@dataclass(frozen=True, slots=True)
class Marks:
    """Which of the held-out pictures an artifact labelled right."""

    pictures: str
    """Names the pictures and their order: only marks on the same ones can be compared."""
    right: int
    """One bit a picture."""


@dataclass(frozen=True, slots=True)
class Walker:
    """What the walk knows of an arm."""

    arm: str
    latency_ms: float
    accuracy: float
    dev_accuracy: float | None = None
    """On the split that choices are made on."""
    marks: Marks | None = None
    network: str = ""
    """What it computes, as `conv_small@160 int8`, whichever runtime does."""


@dataclass(frozen=True, slots=True)
class _Step:
    walker: Walker
    p: float
    joined: bool


def ties(walkers: Iterable[Walker]) -> Mapping[str, str]:
    """The arms that look better than a faster one without proof, each with that one.

    Without marks on the same pictures the figures themselves decide.
    """
    ordered = sorted(walkers, key=lambda walker: (walker.latency_ms, -walker.accuracy, walker.arm))
    members = _members(_proposed(ordered))
    tied: dict[str, str] = {}
    last: Walker | None = None
    for walker in ordered:
        if walker in members:
            last = walker
        elif last and walker.accuracy > last.accuracy and _comparable(walker, last):
            tied[walker.arm] = last.arm
    return tied


def _proposed(ordered: Sequence[Walker]) -> list[Walker]:
    """The arms whose figure on dev no faster one reaches; the held-out one where dev lacks any.

    The same network in the same number format on a slower runtime makes no claim of its own: as a
    test it could prove nothing and would only make the correction of the others stricter.
    """
    by_dev = all(walker.dev_accuracy is not None for walker in ordered)
    best, proposed, seen = -1.0, [], set[str]()
    for walker in ordered:
        figure = walker.dev_accuracy if by_dev else walker.accuracy
        if figure is not None and figure > best and walker.network not in seen:
            best = figure
            proposed.append(walker)
        seen |= {walker.network} - {""}
    return proposed


def _members(proposed: Sequence[Walker]) -> Sequence[Walker]:
    """Those who join when Holm's correction is over all the tests of the walk.

    Who fails the correction is left behind and the walk repeated, since those after it are then
    compared with another one.
    """
    left_behind: set[str] = set()
    while True:
        steps = _walk(proposed, left_behind)
        kept = holm([step.p for step in steps])
        failed = [step for step, keep in zip(steps, kept, strict=True) if step.joined and not keep]
        if not failed:
            return [*proposed[:1], *(step.walker for step in steps if step.joined)]
        left_behind.add(max(failed, key=lambda step: step.p).walker.arm)


def _walk(proposed: Sequence[Walker], left_behind: set[str]) -> list[_Step]:
    last, steps = proposed[:1], []
    for walker in proposed[1:]:
        p = _p_value(walker, last[0])
        joined = p <= ALPHA and walker.arm not in left_behind
        steps.append(_Step(walker, p, joined))
        if joined:
            last = [walker]
    return steps


def _p_value(challenger: Walker, other: Walker) -> float:
    """How likely a challenger that is no better would do so well."""
    if challenger.marks is None or other.marks is None or not _comparable(challenger, other):
        return 0.0 if challenger.accuracy > other.accuracy else 1.0
    mine, theirs = challenger.marks.right, other.marks.right
    return mcnemar(won=(mine & ~theirs).bit_count(), lost=(theirs & ~mine).bit_count())


def _comparable(one: Walker, other: Walker) -> bool:
    return bool(one.marks and other.marks and one.marks.pictures == other.marks.pictures)
