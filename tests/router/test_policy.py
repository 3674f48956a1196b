import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import Arm, BackendName, OnMiss, Plan, Reason, Terms
from mnv4serve.router.policy import (
    Candidate,
    Eligible,
    Outlook,
    Refusal,
    RefusalKind,
    choose,
    eligible,
    fastest,
    most_accurate_on_time,
    rebind,
    round_up,
)
from tests.router.builders import arm, arms_of, candidate, plan

TARGET = 0.95
shares = st.sampled_from([0.0, 0.5, 0.7, 0.7, 0.9, 0.949, 0.95, 0.99, 1.0])
_candidates = st.lists(
    st.tuples(st.none() | shares, st.sampled_from([1.0, 2.0, 3.0, 5.0]), shares),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        candidate(arm(f"v{index:02}", accuracy=accuracy), run_ms=run_ms, probability=probability)
        for index, (accuracy, run_ms, probability) in enumerate(rows)
    ]
)


class _Fallback:
    """Offers these candidates late, and this outlook."""

    def __init__(self, late: list[Candidate], outlook: Outlook | None = None) -> None:
        self._late = late
        self._outlook = outlook or Outlook(2.0, 9.0, 4.0)

    def degraded(self) -> list[Candidate]:
        return self._late

    def outlook(self) -> Outlook:
        return self._outlook


def _beats(one: Candidate, other: Candidate) -> bool:
    """By accuracy, then speed, then name."""
    accuracies = [-1.0 if c.arm.accuracy is None else c.arm.accuracy for c in (one, other)]
    if accuracies[0] != accuracies[1]:
        return accuracies[0] > accuracies[1]
    if one.estimate.total_ms != other.estimate.total_ms:
        return one.estimate.total_ms < other.estimate.total_ms
    return one.arm.id < other.arm.id


@given(_candidates, st.randoms(use_true_random=False))
def test_the_pick_is_beaten_by_no_other_that_is_on_time(
    candidates: list[Candidate], shuffler: random.Random
) -> None:
    """Whatever their order, the pick is on time and beats every other candidate that is."""
    shuffler.shuffle(candidates)

    pick = most_accurate_on_time(candidates, target=TARGET)

    likely = [c for c in candidates if c.on_time_probability >= TARGET]
    if pick is None:
        assert not likely
        return
    assert pick in likely
    assert all(_beats(pick, other) for other in likely if other is not pick)


@given(_candidates)
def test_without_an_arm_on_time_the_fastest_degrades(candidates: list[Candidate]) -> None:
    """A plan is on time where any arm is, and otherwise says that it is degraded."""
    terms = Terms(budget_ms=5.0)

    decided = choose(candidates, terms, target=TARGET, fallback=_Fallback(candidates))

    assert isinstance(decided, Plan)
    if any(c.on_time_probability >= TARGET for c in candidates):
        assert decided.on_time_probability >= TARGET
        assert decided.reason is Reason.MOST_ACCURATE_ON_TIME
        return
    assert decided.reason is Reason.DEGRADED
    assert decided.predicted_ms == min(c.estimate.total_ms for c in candidates)


def test_a_plan_carries_the_estimate_of_its_arm() -> None:
    """Every stage of the estimate is in the plan, with the reason that narrowed the choice."""
    chosen = candidate(arm(), run_ms=3.0, wait_ms=2.0, probability=0.97)

    decided = choose([chosen], Terms(), target=TARGET, fallback=_Fallback([]), reason=Reason.PINNED)

    assert decided == Plan(chosen.arm, 5.0, 2.0, 0.0, 3.0, 0.0, 0.0, 0.97, Reason.PINNED)


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
    hopeless = [candidate(arm(), probability=0.0)]
    fallback = _Fallback(hopeless, Outlook(2.0, 9.0, 4.0, full=full))

    decided = choose(hopeless, terms, target=TARGET, fallback=fallback)

    assert decided == expected


def test_degrading_needs_room_in_the_queue() -> None:
    """Where not even a late answer finds room, the refusal says when to try again."""
    decided = choose([], Terms(), target=TARGET, fallback=_Fallback([]))

    assert decided == Refusal(RefusalKind.QUEUE_FULL, 9.0, 4.0)


def test_another_policy_can_take_the_choice() -> None:
    """The policy is an argument: here one that always takes the first candidate."""
    first, second = (candidate(one) for one in arms_of(0.7, 0.9))

    def take_first(candidates: object, *, target: float) -> Candidate:  # noqa: ARG001
        return first

    decided = choose(
        [first, second], Terms(), target=TARGET, fallback=_Fallback([]), policy=take_first
    )

    assert isinstance(decided, Plan)
    assert decided.arm == first.arm
    assert rebind([first, second], plan(second.arm), target=TARGET, policy=take_first) is first


def test_equally_fast_the_more_accurate_is_called_fastest() -> None:
    """Speed decides first, then accuracy, known before unknown."""
    slow, plain, good = arms_of(0.99, 0.7, 0.8)
    unknown = arm("a", accuracy=None)

    chosen = fastest([candidate(slow, run_ms=2.0), *map(candidate, (unknown, plain, good))])

    assert chosen.arm == good


def test_rebinding_uses_the_time_that_is_left() -> None:
    """At dispatch the most accurate arm that is on time now is taken, better or worse."""
    worse, reserved, better = arms_of(0.7, 0.8, 0.9)

    def decide(*probabilities: float) -> Arm:
        candidates = [
            candidate(one, run_ms=run_ms, probability=probability)
            for one, run_ms, probability in zip(
                (worse, reserved, better), (1.0, 2.0, 3.0), probabilities, strict=True
            )
        ]
        return rebind(candidates, plan(reserved), target=TARGET).arm

    assert decide(1.0, 1.0, 1.0) == better
    assert decide(1.0, 1.0, 0.5) == reserved
    assert decide(1.0, 0.5, 0.5) == worse
    assert decide(0.5, 0.2, 0.0) == worse


def test_rebinding_passes_over_arms_that_would_harm_others() -> None:
    """An upgrade has to fit the limit; the reserved arm need not."""
    reserved, better, best = arms_of(0.8, 0.9, 0.95)
    candidates = [
        candidate(reserved, run_ms=5.0),
        candidate(better, run_ms=4.0),
        candidate(best, run_ms=6.0),
    ]

    def decide(limit_ms: float) -> Arm:
        return rebind(candidates, plan(reserved), target=TARGET, limit_ms=limit_ms).arm

    assert decide(6.0) == best
    assert decide(5.5) == better
    assert decide(3.0) == reserved


CPU, ONNX = arm("v"), arm("v", backend=BackendName.ONNX, accuracy=0.7)
OTHER, UNKNOWN = arm("w", accuracy=0.9), arm("u", accuracy=None)
ALL = (CPU, ONNX, OTHER, UNKNOWN)


@pytest.mark.parametrize(
    ("terms", "expected", "reason"),
    [
        (Terms(), (CPU, ONNX, OTHER), Reason.MOST_ACCURATE_ON_TIME),
        (Terms(variant="v"), (CPU, ONNX), Reason.PINNED),
        (Terms(backend=BackendName.ONNX), (ONNX,), Reason.PINNED),
        (Terms(variant="v", backend=BackendName.CPU), (CPU,), Reason.PINNED),
        (Terms(variant="u"), (UNKNOWN,), Reason.PINNED),
        (Terms(variant="v", min_accuracy=0.75), (CPU,), Reason.PINNED),
        (Terms(min_accuracy=0.7), (CPU, ONNX, OTHER), Reason.MOST_ACCURATE_ON_TIME),
        (Terms(min_accuracy=0.75), (CPU, OTHER), Reason.MOST_ACCURATE_ON_TIME),
        (Terms(min_accuracy=0.85), (OTHER,), Reason.FLOOR),
    ],
)
def test_pins_and_floor_are_hard(terms: Terms, expected: tuple[Arm, ...], reason: Reason) -> None:
    """Only arms that satisfy all terms are eligible, and the reason says what narrowed them."""
    assert eligible(ALL, terms) == Eligible(expected, reason)


def test_a_floor_that_excludes_nothing_decides_nothing() -> None:
    """With a single arm resident, a floor below its accuracy is not what chose it."""
    assert eligible([CPU], Terms(min_accuracy=0.5)) == Eligible(
        (CPU,), Reason.MOST_ACCURATE_ON_TIME
    )


@pytest.mark.parametrize(
    "terms",
    [
        Terms(variant="nothing"),
        Terms(variant="w", backend=BackendName.ONNX),
        Terms(min_accuracy=0.99),
        Terms(variant="u", min_accuracy=0.1),
    ],
)
def test_terms_that_no_arm_satisfies_name_what_there_is(terms: Terms) -> None:
    """Without an eligible arm the refusal lists the resident ones."""
    assert eligible(ALL, terms) == Refusal(RefusalKind.NO_SUCH_ARM, available=ALL)


def test_an_arm_that_exists_but_is_down_is_told_apart() -> None:
    """Where only an arm whose device is down satisfies the terms, that is the reason."""
    assert eligible([CPU], Terms(variant="w"), down=[OTHER]) == Refusal(RefusalKind.ARM_DOWN)
    assert eligible([], Terms(), down=ALL) == Refusal(RefusalKind.ARM_DOWN)
    assert eligible([CPU], Terms(), down=[OTHER]) == Eligible((CPU,))


@given(st.floats(0.0, 1e7))
def test_rounding_up_never_rounds_down(duration_ms: float) -> None:
    """The result is at least the duration, and less than a fifth of a millisecond more."""
    assert duration_ms <= round_up(duration_ms) < duration_ms + 0.2
