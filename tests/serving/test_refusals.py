"""Refusals become sentences that say what was asked for and what there is."""

from mnv4serve.domain import Arm, BackendName, Precision, Terms
from mnv4serve.router.refusal import Refusal, RefusalKind
from mnv4serve.serving.refusals import error_of

ARM = Arm("small@96", BackendName.CPU, Precision.INT8, "cpu", 96, accuracy=0.75)


def test_pins_and_floor_that_no_arm_satisfies_are_told() -> None:
    """A pin is something an arm has, a floor something it reaches."""
    refusal = Refusal(RefusalKind.NO_SUCH_ARM, available=(ARM,))
    terms = Terms(budget_ms=5.0, backend=BackendName.CUDA, min_accuracy=0.9)

    error = error_of(refusal, terms)

    assert str(error) == (
        "no resident arm has backend cuda and reaches min_accuracy 0.9; "
        "there are small@96/cpu/int8/cpu (0.750)"
    )
