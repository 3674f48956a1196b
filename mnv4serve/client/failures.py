"""What can go wrong for a client: the service's errors again, and when to try once more."""

from collections.abc import Mapping

from mnv4serve.errors import (
    Busy,
    Draining,
    Infeasible,
    Internal,
    MnvError,
    NotReady,
    ServeError,
    code,
    leaves,
)

FIRST_PAUSE_MS = 50.0
MAX_ATTEMPTS = 6
"""Whose pauses, each twice the one before, fill the usual patience."""

_KINDS = {code(kind): kind for kind in leaves()}


class Unreachable(MnvError):
    """No mnv4serve answers at the address; `sent` tells whether the request may have got there."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


def rebuilt(name: str, message: str, hints: Mapping[str, float]) -> ServeError:
    """The error that the service raised, from its name on the wire."""
    kind = _KINDS.get(name, Internal)
    feasible_ms = hints.get("smallest_feasible_budget_ms", float("nan"))
    if issubclass(kind, Busy):
        retry_after_ms = hints.get("retry_after_ms", float("nan"))
        return kind(message, smallest_feasible_budget_ms=feasible_ms, retry_after_ms=retry_after_ms)
    if issubclass(kind, Infeasible):
        return kind(message, smallest_feasible_budget_ms=feasible_ms)
    return kind(message)


def pause_before_retry_ms(
    error: MnvError, *, attempt: int, spent_ms: float, budget_ms: float, patience_ms: float
) -> float | None:
    """How long to wait before trying again, None where that makes no sense.

    A busy service is asked again only if its hint still lies within the budget; one that starts,
    drains or does not listen yet, while the caller's patience lasts. Where the connection broke
    under a request, as under those in flight to a replica that is replaced, it is sent once more
    within the budget: to classify a picture twice changes nothing.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    match error:
        case Busy(retry_after_ms=pause_ms):
            return pause_ms if spent_ms + pause_ms <= budget_ms else None
        case NotReady() | Draining() | Unreachable(sent=False):
            pause_ms = FIRST_PAUSE_MS * 2 ** (attempt - 1)
            return pause_ms if spent_ms + pause_ms <= patience_ms else None
        case Unreachable(sent=True) if attempt == 1:
            return 0.0 if spent_ms <= (budget_ms or patience_ms) else None
        case _:
            return None
