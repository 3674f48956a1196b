"""Which arm a request gets: pins and floor, then the most accurate arm that is likely on time.

Reasons of a plan:

- `degraded`: no arm was likely on time; the fastest eligible one, behind all work that is.
- `pinned`: the arm is one that the caller's `variant` or `backend` allows.
- `floor`: no pin, and `min_accuracy` left this arm only while there were others.
- `most_accurate_on_time`: none of these restricted the choice to less than a choice.
- `rebound`: at dispatch another arm was chosen than the one reserved at admission.
- `priced_down`: given by policies that price an arm's slot time; none does so here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mnv4serve.domain import Arm, OnMiss, Plan, Reason, Terms
from mnv4serve.router.predict import Estimate


@dataclass(frozen=True, slots=True)
class Candidate:
    """An eligible arm with what to expect of it now."""

    arm: Arm
    estimate: Estimate
    on_time_probability: float


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


@dataclass(frozen=True, slots=True)
class Eligible:
    """The arms that a request may get."""

    arms: tuple[Arm, ...]
    reason: Reason = Reason.MOST_ACCURATE_ON_TIME
    """Of a plan that picks one of them."""


class Policy(Protocol):
    """Picks one of the candidates, None where none is worth choosing."""

    def __call__(self, candidates: Sequence[Candidate], *, target: float) -> Candidate | None: ...


class Fallback(Protocol):
    """What `choose` needs to know only when nothing is likely on time."""

    def degraded(self) -> Sequence[Candidate]:
        """The candidates as they would do behind all work that is likely on time."""
        ...

    def outlook(self) -> Outlook:
        """What it would take to be accepted."""
        ...


def eligible(arms: Sequence[Arm], terms: Terms, *, down: Sequence[Arm] = ()) -> Eligible | Refusal:
    """The resident arms that satisfy pins and floor; `down` are those whose device is down.

    An arm of unknown accuracy is eligible only when pinned, and never under a floor.
    """
    allowed = [arm for arm in arms if allows(terms, arm)]
    chosen = tuple(arm for arm in allowed if _reaches_floor(terms, arm))
    if chosen:
        return Eligible(chosen, _narrowed(terms, n_before=len(allowed), n_after=len(chosen)))
    if any(allows(terms, arm) and _reaches_floor(terms, arm) for arm in down):
        return Refusal(RefusalKind.ARM_DOWN)
    return Refusal(RefusalKind.NO_SUCH_ARM, available=tuple(arms))


def most_accurate_on_time(candidates: Sequence[Candidate], *, target: float) -> Candidate | None:
    """The most accurate arm whose probability of being on time reaches the target."""
    on_time = [c for c in candidates if c.on_time_probability >= target]
    return min(on_time, key=_accuracy_first, default=None)


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """The arm whose answer is expected first."""
    return min(candidates, key=_speed_first)


def choose(
    candidates: Sequence[Candidate],
    terms: Terms,
    *,
    target: float,
    fallback: Fallback,
    reason: Reason = Reason.MOST_ACCURATE_ON_TIME,
    policy: Policy = most_accurate_on_time,
) -> Plan | Refusal:
    """What the policy picks; else the fastest arm late, or a refusal, as the caller wishes."""
    pick = policy(candidates, target=target)
    if pick is not None:
        return plan_of(pick, reason)
    match terms.on_miss:
        case OnMiss.DEGRADE:
            return _degrade(fallback)
        case OnMiss.REFUSE:
            return refuse(terms, fallback.outlook())


def rebind(
    candidates: Sequence[Candidate],
    plan: Plan,
    *,
    target: float,
    limit_ms: float = math.inf,
    policy: Policy = most_accurate_on_time,
) -> Candidate:
    """Decide again at dispatch, with estimates that wait no more and the time that is left.

    An arm that takes a slot for longer than `limit_ms` would harm others and is passed over, save
    the reserved one. Where nothing is likely on time, the fastest.
    """
    harmless = [c for c in candidates if c.estimate.slot_ms <= limit_ms or c.arm.id == plan.arm.id]
    return policy(harmless, target=target) or fastest(candidates)


def plan_of(candidate: Candidate, reason: Reason) -> Plan:
    """A candidate as the plan it becomes when chosen."""
    estimate = candidate.estimate
    return Plan(
        arm=candidate.arm,
        predicted_ms=estimate.total_ms,
        wait_ms=estimate.wait_ms,
        decode_ms=estimate.decode_ms,
        service_ms=estimate.service_ms,
        hop_ms=estimate.hop_ms,
        reply_ms=estimate.reply_ms,
        on_time_probability=candidate.on_time_probability,
        reason=reason,
    )


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


def _degrade(fallback: Fallback) -> Plan | Refusal:
    candidates = fallback.degraded()
    if candidates:
        return plan_of(fastest(candidates), Reason.DEGRADED)
    outlook = fallback.outlook()
    return Refusal(RefusalKind.QUEUE_FULL, outlook.now_budget_ms, outlook.retry_after_ms)


def allows(terms: Terms, arm: Arm) -> bool:
    """Whether the pins let a request have an arm; without pins, whether its accuracy is known."""
    if terms.variant is None and terms.backend is None:
        return arm.accuracy is not None
    return terms.variant in (None, arm.variant) and terms.backend in (None, arm.backend)


def _reaches_floor(terms: Terms, arm: Arm) -> bool:
    if terms.min_accuracy is None:
        return True
    return arm.accuracy is not None and arm.accuracy >= terms.min_accuracy


def _narrowed(terms: Terms, *, n_before: int, n_after: int) -> Reason:
    if terms.variant is not None or terms.backend is not None:
        return Reason.PINNED
    return Reason.FLOOR if n_after == 1 < n_before else Reason.MOST_ACCURATE_ON_TIME


def _accuracy_first(candidate: Candidate) -> tuple[float, float, str]:
    accuracy = candidate.arm.accuracy
    known = -1.0 if accuracy is None else accuracy
    return -known, candidate.estimate.total_ms, candidate.arm.id


def _speed_first(candidate: Candidate) -> tuple[float, float, str]:
    accuracy = candidate.arm.accuracy
    known = -1.0 if accuracy is None else accuracy
    return candidate.estimate.total_ms, -known, candidate.arm.id
