import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import OnMiss, Terms
from mnv4serve.router.refusal import Outlook, Refusal, RefusalKind, refuse, round_up


@pytest.mark.parametrize(
    ("budget_ms", "full", "expected"),
    [
        (1.9, False, Refusal(RefusalKind.INFEASIBLE, 2.0)),
        (1.9, True, Refusal(RefusalKind.INFEASIBLE, 2.0)),
        (2.0, False, Refusal(RefusalKind.BUSY, 9.0, 4.0)),
        (2.0, True, Refusal(RefusalKind.QUEUE_FULL, 9.0, 4.0)),
    ],
)
def test_refusals_tell_impossible_from_busy(
    *, budget_ms: float, full: bool, expected: Refusal
) -> None:
    """Infeasible is what an idle service would refuse as well, and carries no retry hint."""
    terms = Terms(budget_ms=budget_ms, on_miss=OnMiss.REFUSE)

    assert refuse(terms, Outlook(2.0, 9.0, 4.0, full=full)) == expected


@given(st.floats(0.0, 1e7))
def test_rounding_up_never_rounds_down(duration_ms: float) -> None:
    """The result is at least the duration, and less than a fifth of a millisecond more."""
    assert duration_ms <= round_up(duration_ms) < duration_ms + 0.2
