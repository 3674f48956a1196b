from dataclasses import replace

import pytest

from mnv4serve.domain import Arm, BackendName, Reason, Terms
from mnv4serve.router.eligible import Eligible, eligible
from mnv4serve.router.refusal import Refusal, RefusalKind
from tests.router.builders import arm

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


def test_a_tied_arm_stands_back_for_the_one_it_is_tied_to() -> None:
    """It is used where a pin or a floor leaves that one out, and only there."""
    fast = arm("fast", accuracy=0.8)
    tied = replace(arm("tied", accuracy=0.81, backend=BackendName.ONNX), tied_to=fast.id)
    slow = arm("slow", accuracy=0.9)

    def allowed(terms: Terms) -> tuple[Arm, ...]:
        found = eligible([fast, tied, slow], terms)
        assert isinstance(found, Eligible)
        return found.arms

    assert allowed(Terms()) == (fast, slow)
    assert allowed(Terms(min_accuracy=0.805)) == (tied, slow)
    assert allowed(Terms(variant="tied")) == (tied,)
    assert allowed(Terms(backend=BackendName.ONNX)) == (tied,)
