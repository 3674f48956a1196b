"""What the last requests came to, for whoever looks.

A finished request costs one append; sums are made only when somebody asks for them.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnv4serve.domain import Outcome, Served, Transport

WINDOW = 1000
"""Requests that are looked back on, and no further than the next figure."""
WINDOW_MS = 60_000.0
REFUSALS = 10
NOT_OFFERED = frozenset({Outcome.INVALID, Outcome.CANCELLED})
"""Nothing that the service could have answered on time."""
ANSWERED = frozenset({Outcome.ON_TIME, Outcome.LATE})


@dataclass(frozen=True, slots=True)
class ArmShare:
    """What one arm contributed."""

    traffic_share: float
    """Of all answers."""
    on_time_share: float
    """Of its own answers."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One request that got no answer."""

    ago_ms: float
    outcome: Outcome
    reason: str
    """Class of the error in snake case."""
    transport: Transport
    budget_ms: float


@dataclass(frozen=True, slots=True)
class Recent:
    """The requests of the last while; what nothing is known about is None."""

    requests: int
    """Offered: refused and failed ones included, malformed and cancelled ones not."""
    span_ms: float
    """Age of the oldest of them."""
    on_time_share: float | None
    """Of the offered requests."""
    p50_ms: float | None
    """Whole latency of the answered ones."""
    p99_ms: float | None
    arms: Mapping[str, ArmShare]
    """By id; arms that answered nothing are missing."""
    refusals: tuple[Refused, ...]
    """The newest first, however long ago."""


@dataclass(frozen=True, slots=True)
class _Ended:
    at_ms: float
    outcome: Outcome
    arm_id: str
    total_ms: float


class Traffic:
    """Remembers finished requests in constant space."""

    def __init__(self) -> None:
        self._ended: deque[_Ended] = deque(maxlen=WINDOW)
        self._refused: deque[tuple[float, Served]] = deque(maxlen=REFUSALS)

    def observe(self, served: Served, *, now_ms: float) -> None:
        """Remember a request that has just ended."""
        if served.outcome in NOT_OFFERED:
            return
        if served.plan is None or served.stages is None:
            self._refused.append((now_ms, served))
            self._ended.append(_Ended(now_ms, served.outcome, "", 0.0))
            return
        arm_id, total_ms = served.plan.arm.id, served.stages.total_ms
        self._ended.append(_Ended(now_ms, served.outcome, arm_id, total_ms))

    def recent(self, *, now_ms: float) -> Recent:
        """Sum up what is not too long ago."""
        ended = [one for one in self._ended if now_ms - one.at_ms <= WINDOW_MS]
        answered = [one for one in ended if one.outcome in ANSWERED]
        ranked = sorted(one.total_ms for one in answered)
        return Recent(
            requests=len(ended),
            span_ms=now_ms - ended[0].at_ms if ended else 0.0,
            on_time_share=_on_time_share(ended) if ended else None,
            p50_ms=ranked[len(ranked) // 2] if ranked else None,
            p99_ms=ranked[len(ranked) * 99 // 100] if ranked else None,
            arms=_shares(answered),
            refusals=tuple(_refused(at_ms, one, now_ms) for at_ms, one in reversed(self._refused)),
        )


def _on_time_share(ended: Sequence[_Ended]) -> float:
    return sum(one.outcome is Outcome.ON_TIME for one in ended) / len(ended)


def _shares(answered: Sequence[_Ended]) -> dict[str, ArmShare]:
    answers = Counter(one.arm_id for one in answered)
    on_time = Counter(one.arm_id for one in answered if one.outcome is Outcome.ON_TIME)
    return {
        arm_id: ArmShare(count / len(answered), on_time[arm_id] / count)
        for arm_id, count in answers.most_common()
    }


def _refused(at_ms: float, served: Served, now_ms: float) -> Refused:
    reason = served.refused_reason or str(served.outcome)
    budget_ms = served.terms.budget_ms
    return Refused(now_ms - at_ms, served.outcome, reason, served.transport, budget_ms)
