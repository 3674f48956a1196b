"""No plan, and what a caller can do about it."""

import math
from dataclasses import dataclass
from enum import StrEnum

from mnv4serve.domain import Arm, Terms


class RefusalKind(StrEnum):
    """Why there is no plan."""

    INFEASIBLE = "infeasible"
    BUSY = "busy"
    QUEUE_FULL = "queue_full"
    NO_SUCH_ARM = "no_such_arm"
    ARM_DOWN = "arm_down"


@dataclass(frozen=True, slots=True)
class Refusal:
    """No plan, and what the caller could do about it."""

    kind: RefusalKind
    smallest_feasible_budget_ms: float | None = None
    """Accepted by an idle service where infeasible, right now where busy, by the next free place
    in the queue where that is full; sent again with as much time spent before admission."""
    retry_after_ms: float | None = None
    available: tuple[Arm, ...] = ()
    """For `no_such_arm`: the arms that there are."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What it would take for a request to be accepted."""

    idle_budget_ms: float
    """Smallest budget that an idle service accepts."""
    now_budget_ms: float
    """A budget that is accepted right now."""
    retry_after_ms: float
    """When the same budget may be accepted."""
    full: bool = False
    """No queue has room; until one has, no budget is accepted."""


def refuse(terms: Terms, outlook: Outlook) -> Refusal:
    """Infeasible where an idle service would refuse as well, busy otherwise."""
    if terms.budget_ms < outlook.idle_budget_ms:
        return Refusal(RefusalKind.INFEASIBLE, round_up(outlook.idle_budget_ms))
    kind = RefusalKind.QUEUE_FULL if outlook.full else RefusalKind.BUSY
    return Refusal(kind, outlook.now_budget_ms, outlook.retry_after_ms)


def round_up(duration_ms: float) -> float:
    """To a tenth of a millisecond, never down."""
    rounded = math.ceil(duration_ms * 10.0) / 10.0
    return rounded if rounded >= duration_ms else rounded + 0.1
