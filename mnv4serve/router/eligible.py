"""Which arms a request may get at all: its pins and its floor."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Arm, Reason, Terms
from mnv4serve.router.refusal import Refusal, RefusalKind


@dataclass(frozen=True, slots=True)
class Eligible:
    """The arms that a request may get."""

    arms: tuple[Arm, ...]
    reason: Reason = Reason.MOST_ACCURATE_ON_TIME
    """Of a plan that picks the most accurate of them that is on time."""


def eligible(arms: Sequence[Arm], terms: Terms, *, down: Sequence[Arm] = ()) -> Eligible | Refusal:
    """The resident arms that satisfy pins and floor; `down` are those whose device is down.

    An arm of unknown accuracy is eligible only when pinned, and never under a floor. One that is
    tied to a faster arm is eligible only where that one is not.
    """
    allowed = [arm for arm in arms if allows(terms, arm)]
    chosen = [arm for arm in allowed if _reaches_floor(terms, arm)]
    if chosen:
        return Eligible(
            _without_ties(chosen), _narrowed(terms, n_before=len(allowed), n_after=len(chosen))
        )
    if any(allows(terms, arm) and _reaches_floor(terms, arm) for arm in down):
        return Refusal(RefusalKind.ARM_DOWN)
    return Refusal(RefusalKind.NO_SUCH_ARM, available=tuple(arms))


def allows(terms: Terms, arm: Arm) -> bool:
    """Whether the pins let a request have an arm; without pins, whether its accuracy is known."""
    if terms.variant is None and terms.backend is None:
        return arm.accuracy is not None
    return terms.variant in (None, arm.variant) and terms.backend in (None, arm.backend)


def _reaches_floor(terms: Terms, arm: Arm) -> bool:
    if terms.min_accuracy is None:
        return True
    return arm.accuracy is not None and arm.accuracy >= terms.min_accuracy


def _without_ties(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    ids = {arm.id for arm in arms}
    return tuple(arm for arm in arms if arm.tied_to not in ids)


def _narrowed(terms: Terms, *, n_before: int, n_after: int) -> Reason:
    if terms.variant is not None or terms.backend is not None:
        return Reason.PINNED
    return Reason.FLOOR if n_after == 1 < n_before else Reason.MOST_ACCURATE_ON_TIME
