import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.errors import BadConfig
from mnv4serve.simulate.budgets import PRESETS, Mixture, Range, parse_budgets


def test_shares_and_ranges_are_as_written() -> None:
    """A mixture draws from its ranges as often as their shares say."""
    found = parse_budgets("0.3@3-8,0.7@36").draw(10_000, np.random.default_rng(0))

    tight = found < 36.0
    assert tight.mean() == pytest.approx(0.3, abs=0.02)
    assert found[tight].min() >= 3.0
    assert found[tight].max() <= 8.0
    assert (found[~tight] == 36.0).all()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_names(name: str) -> None:
    """A preset's name stands for it, and its text means the same."""
    assert parse_budgets(name) is PRESETS[name]
    assert parse_budgets(str(PRESETS[name])) == PRESETS[name]


@given(
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    low=st.integers(1, 50),
    width=st.integers(0, 50),
)
def test_text_and_mixture_agree(shares: list[int], low: int, width: int) -> None:
    """Written out and read again, a mixture is the same; shares need not add up to one."""
    mixture = Mixture(tuple(Range(share, low, low + width) for share in shares))

    assert parse_budgets(str(mixture)) == mixture


@pytest.mark.parametrize(
    "text", ["", "nonsense", "0.5", "1@", "1@a-b", "-1@3-8", "1@-3-8", "1@3-8,", "nan@3-8"]
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """The sentence shows how budgets are written."""
    with pytest.raises(BadConfig, match=r"share@low-high"):
        parse_budgets(text)


@pytest.mark.parametrize("text", ["0@3-8", "1@8-3", "1@0-3"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    """No share of nothing, no range that falls, no budget of zero."""
    with pytest.raises(BadConfig, match="above"):
        parse_budgets(text)
