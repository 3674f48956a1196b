"""The walk keeps what is proven, ties what only looks better, and needs no luck to do so."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.router.walk import Marks, Walker, _members, ties

N = 1000
VAL = "the same thousand pictures"


def walker(name: str, latency_ms: float, right: int, *, dev: float | None = None) -> Walker:
    """An arm that labels the first `right` of a thousand pictures right."""
    share = right / N
    return Walker(
        name, latency_ms, share, share if dev is None else dev, Marks(VAL, (1 << right) - 1)
    )


def test_a_clear_gain_joins_and_a_small_one_is_tied() -> None:
    """Thirty more of a thousand are proof, three more are not; each tie names the faster arm."""
    found = ties(
        [walker("a", 1.0, 800), walker("b", 2.0, 830), walker("c", 3.0, 833), walker("d", 4.0, 870)]
    )

    assert found == {"c": "b"}


def test_small_gains_add_up() -> None:
    """Who is tied to the last member does not become the measure of the next."""
    steps = [walker(f"a{i}", 1.0 + i, 800 + 2 * i) for i in range(4)]

    assert ties(steps) == {"a1": "a0", "a2": "a0"}


def test_correction_is_over_the_whole_walk() -> None:
    """Five pairs, p = 1/32, prove a single step but not one step of three."""
    base, better = walker("a", 1.0, 800), walker("b", 2.0, 805)
    # both look better on dev, are not, and still count as tests
    idle = [walker("c", 3.0, 790, dev=0.81), walker("d", 4.0, 780, dev=0.82)]

    assert ties([base, better]) == {}
    assert ties([base, better, *idle]) == {"b": "a"}


def test_dev_proposes_who_walks() -> None:
    """An arm that dev does not propose is not tested, however well it does on held-out pictures."""
    found = ties([walker("a", 1.0, 800), walker("b", 2.0, 880, dev=0.79)])

    assert found == {"b": "a"}


def test_a_network_on_a_second_runtime_makes_no_claim_of_its_own() -> None:
    """p = 1/32 proves the one step of a walk, beside a twin that looks better by a picture."""
    base, better = walker("a", 1.0, 800), walker("b", 2.0, 805)
    twin = walker("c", 3.0, 790, dev=0.806)

    assert ties([base, better, twin]) == {"b": "a"}
    same = [replace(one, network="small int8") for one in (better, twin)]
    assert ties([base, *same]) == {}


def test_dominated_arms_are_not_tied() -> None:
    """Slower and no better is beaten, whatever is proven."""
    assert ties([walker("a", 1.0, 800), walker("b", 2.0, 800), walker("c", 3.0, 700)]) == {}


@pytest.mark.parametrize("marks", [None, Marks("other pictures", 0)])
def test_without_common_pictures_the_figures_decide(marks: Marks | None) -> None:
    """Arms that were judged on different pictures cannot be paired."""
    assert ties([walker("a", 1.0, 800), Walker("b", 2.0, 0.801, 0.9, marks)]) == {}


def test_no_arms_no_ties() -> None:
    """An empty pool and a lone arm have nothing to compare."""
    assert ties([]) == {}
    assert ties([walker("a", 1.0, 1)]) == {}


def test_equal_arms_seldom_pass_for_better() -> None:
    """Of 400 walks over eight equally good arms, about one in twenty or fewer proves anything."""
    rng = random.Random(0)
    wrong = 0
    for _ in range(400):
        masks = [sum(1 << i for i in range(300) if rng.random() < 0.8) for _ in range(8)]
        proposed = [
            Walker(f"a{i}", float(i), mask.bit_count() / 300, i / 8, Marks(VAL, mask))
            for i, mask in enumerate(masks)
        ]
        wrong += len(_members(proposed)) > 1

    assert wrong <= 32  # 20 and three standard deviations


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=9))
def test_ties_point_to_faster_less_accurate_members(rows: list[tuple[int, int]]) -> None:
    """Whatever the figures: a tie names an arm that is no slower, looks worse and is not tied."""
    walkers = {f"a{i}": walker(f"a{i}", ms, right) for i, (right, ms) in enumerate(rows)}

    found = ties(walkers.values())

    for name, other in found.items():
        assert walkers[other].latency_ms <= walkers[name].latency_ms
        assert walkers[other].accuracy < walkers[name].accuracy
        assert other not in found
