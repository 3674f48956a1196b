"""Refusals as errors that a caller can act on, errors as outcomes."""

from collections.abc import Mapping

from mnv4serve.domain import Outcome, Terms
from mnv4serve.errors import (
    ArmDown,
    BadRequest,
    Busy,
    Cancelled,
    Draining,
    Expired,
    Infeasible,
    Internal,
    NoSuchArm,
    NotReady,
    ServeError,
    Shed,
    SlowBody,
    TooLarge,
    Unauthorized,
    UnsupportedMedia,
)
from mnv4serve.router.refusal import Refusal, RefusalKind

OUTCOMES: Mapping[type[ServeError], Outcome] = {
    BadRequest: Outcome.INVALID,
    Unauthorized: Outcome.INVALID,
    SlowBody: Outcome.INVALID,
    TooLarge: Outcome.INVALID,
    UnsupportedMedia: Outcome.INVALID,
    Infeasible: Outcome.REFUSED,
    Busy: Outcome.REFUSED,
    NotReady: Outcome.REFUSED,
    Draining: Outcome.REFUSED,
    ArmDown: Outcome.REFUSED,
    Shed: Outcome.SHED,
    Expired: Outcome.EXPIRED,
    Cancelled: Outcome.CANCELLED,
    Internal: Outcome.ERROR,
}


def outcome_of(error: ServeError) -> Outcome:
    """How a request ended that failed with an error."""
    return next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)


def error_of(refusal: Refusal, terms: Terms) -> ServeError:
    """What to raise for a refusal."""
    match refusal.kind:
        case RefusalKind.INFEASIBLE:
            smallest_ms = refusal.smallest_feasible_budget_ms or 0.0
            message = f"no eligible arm answers within {terms.budget_ms:g} ms even when idle"
            return Infeasible(message, smallest_feasible_budget_ms=smallest_ms)
        case RefusalKind.BUSY | RefusalKind.QUEUE_FULL:
            full = refusal.kind is RefusalKind.QUEUE_FULL
            cause = "the queue is full" if full else "too much work is ahead of it"
            return Busy(
                f"{terms.budget_ms:g} ms cannot be met now: {cause}",
                smallest_feasible_budget_ms=refusal.smallest_feasible_budget_ms or 0.0,
                retry_after_ms=refusal.retry_after_ms or 0.0,
            )
        case RefusalKind.ARM_DOWN:
            return ArmDown("the arm that was asked for is down at the moment")
        case RefusalKind.NO_SUCH_ARM:
            return NoSuchArm(_what_there_is(refusal, terms))


def _what_there_is(refusal: Refusal, terms: Terms) -> str:
    pins = {"variant": terms.variant, "backend": terms.backend}
    wanted = [f"has {name} {value}" for name, value in pins.items() if value is not None]
    if terms.min_accuracy is not None:
        wanted.append(f"reaches min_accuracy {terms.min_accuracy:g}")
    arms = ", ".join(
        arm.id if arm.accuracy is None else f"{arm.id} ({arm.accuracy:.3f})"
        for arm in refusal.available
    )
    if not wanted:
        return f"nobody measured how accurate these arms are, so one has to be named: {arms}"
    return f"no resident arm {' and '.join(wanted)}; there are {arms}"
