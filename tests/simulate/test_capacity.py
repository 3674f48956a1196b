import dataclasses

import numpy as np
import pytest

from mnv4serve.errors import BadConfig
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.capacity import Demand, Search, lower_end
from mnv4serve.simulate.hardware import Kind
from tests.simulate.builders import OneArm, first_arm, kind, scenario

SMALL = kind((1.0, 0.8), name="small")
LARGE = kind((1.0, 0.8), name="large", slots=4)


def demand(*, target: float = 0.95, accuracy: float = 0.0, budgets: str = "1@20") -> Demand:
    subject = scenario(
        SMALL, rate_per_s=3500.0, requests=1500, budgets=parse_budgets(budgets), noise=0.0
    )
    return Demand(subject, first_arm, target=target, accuracy=accuracy)


def search(*kinds: Kind, **more: object) -> Search:
    return Search(kinds, demand(**more))  # type: ignore[arg-type]


def test_the_smallest_number_that_is_enough_is_found() -> None:
    """3,500 requests a second need four devices that take a thousand each, and one fewer fails."""
    subject = search(SMALL)

    found = subject.run()

    assert found.counts[0] in {4, 5}
    assert found.at_least >= 0.95
    assert not subject.try_out((found.counts[0] - 1,)).enough


def test_the_cheaper_kind_is_taken() -> None:
    """Price decides between four small devices and one large one."""
    dear = dataclasses.replace(LARGE, cost=9.0)
    cheap = dataclasses.replace(LARGE, cost=2.0)

    assert search(SMALL, dear).run().counts[1] == 0
    assert search(SMALL, cheap).run().counts[0] == 0


def test_an_accuracy_can_be_asked_for_as_well() -> None:
    """An effective accuracy above what an arm has cannot be reached by any number."""
    with pytest.raises(BadConfig, match="with an accuracy of 0"):
        search(SMALL, accuracy=0.9).run()


def test_what_no_number_of_devices_can_do_is_said() -> None:
    """Budgets below the run time stay unmet however many there are."""
    with pytest.raises(BadConfig, match="ask for larger budgets"):
        search(SMALL, budgets="0.5@0.5,0.5@20").run()


def test_what_was_tried_is_told_once() -> None:
    """A fleet is simulated once; each is told with its count."""
    told: list[tuple[str, int]] = []
    subject = Search((SMALL,), demand(), progress=lambda step, done: told.append((step, done)))

    subject.try_out((2,))
    subject.try_out((2,))

    assert len(told) == 1
    assert told[0][0].startswith("2 small: ")
    assert told[0][1] == 1


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, float("nan")])
def test_a_target_lies_between_zero_and_one(target: float) -> None:
    """All or nothing cannot be planned for."""
    with pytest.raises(BadConfig, match="between 0 and 1"):
        demand(target=target)


@pytest.mark.parametrize("accuracy", [1.0, 5.0, -0.1, float("nan")])
def test_an_accuracy_that_cannot_be_is_refused_before_anything_is_tried(accuracy: float) -> None:
    """80 would be a percentage, and no fleet however large would do."""
    with pytest.raises(BadConfig, match=r"an accuracy of .*: it must lie in \[0, 1\)"):
        demand(accuracy=accuracy)


def test_too_few_requests_cannot_show_a_target() -> None:
    """The sentence names how many can."""
    with pytest.raises(BadConfig, match="ask for 2995 at least"):
        demand(target=0.999)


def test_the_interval_is_wider_for_blocks_that_differ() -> None:
    """Failures that come together say less than the same number spread out."""
    even = lower_end(np.full(20, 0.98), n=2000)
    uneven = lower_end(np.repeat([1.0, 0.8], [18, 2]), n=2000)

    assert uneven < even < 0.98
    assert lower_end(np.ones(20), n=2000) == pytest.approx(1.0 - 2.7 / 2000, abs=5e-4)


def test_policies_are_made_for_every_device() -> None:
    """A policy that keeps state is never shared; a hopeless fleet is given up after one run."""
    made: list[OneArm] = []

    def make(_: object) -> OneArm:
        made.append(OneArm())
        return made[-1]

    subject = Search((SMALL,), dataclasses.replace(demand(), make_policy=make))

    subject.try_out((1,))
    hopeless = len(made)
    subject.try_out((6,))

    assert hopeless == 1
    assert len(made) - hopeless == 3 * 6
