import random

from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import Plan, Reason
from mnv4serve.router.estimate import Estimate
from mnv4serve.router.policy import Candidate, fastest, most_accurate_on_time, plan_of
from tests.router.builders import arm, arms_of, candidate

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


def test_a_probability_is_worked_out_once_and_only_if_asked_for() -> None:
    """Decisions look at few of their candidates that closely."""
    asked: list[Estimate] = []

    def chance(estimate: Estimate) -> float:
        asked.append(estimate)
        return 0.75

    subject = Candidate(arm(), Estimate(0.0, 1.0, 2.0, 0.0, 0.0), chance)
    assert not asked

    assert [subject.on_time_probability, subject.on_time_probability] == [0.75, 0.75]
    assert asked == [subject.estimate]


def test_a_plan_carries_the_estimate_of_its_arm() -> None:
    """Every stage of the estimate is in the plan, with the reason that narrowed the choice."""
    chosen = candidate(arm(), run_ms=3.0, wait_ms=2.0, probability=0.97)

    made = plan_of(chosen, Reason.PINNED)

    assert made == Plan(chosen.arm, 5.0, 2.0, 0.0, 3.0, 0.0, 0.0, 0.97, Reason.PINNED)


def test_equally_fast_the_more_accurate_is_called_fastest() -> None:
    """Speed decides first, then accuracy, known before unknown."""
    slow, plain, good = arms_of(0.99, 0.7, 0.8)
    unknown = arm("a", accuracy=None)

    chosen = fastest([candidate(slow, run_ms=2.0), *map(candidate, (unknown, plain, good))])

    assert chosen.arm == good
