"""The picture shows every arm, names those on the frontier and is the same for the same arms."""

from pathlib import Path

import pytest

from mnv4serve.cli.plot import check_plot, plot_frontier
from mnv4serve.cli.tables import arms_table
from mnv4serve.domain import Arm, ArmView, BackendName, Precision
from mnv4serve.errors import CatalogError, SetupError

pytest.importorskip("matplotlib", reason="plots need the plot extra")


def view(
    name: str, p50_ms: float, accuracy: float | None, *, on_frontier: bool, tied_to: str = ""
) -> ArmView:
    arm = Arm(name, BackendName.CPU, Precision.INT8, "cpu", 96, accuracy, tied_to=tied_to)
    return ArmView(arm, p50_ms, None, None, resident=True, on_frontier=on_frontier)


VIEWS = (
    view("small@96", 0.2, 0.75, on_frontier=True),
    view("small@128", 0.4, 0.76, on_frontier=False, tied_to="small@96/cpu/int8/cpu"),
    view("large@96", 1.6, 0.9, on_frontier=True),
    view("unknown@96", 0.1, None, on_frontier=False),
)


def test_arms_on_the_frontier_are_named(tmp_path: Path) -> None:
    """Tied and unknown ones are not; checkpoints are told in the legend."""
    plot_frontier(VIEWS, tmp_path / "f.svg", title="a machine")

    text = (tmp_path / "f.svg").read_text("utf-8")
    assert "small@96 int8" in text
    assert "large@96 int8" in text
    assert "small@128" not in text
    assert "unknown" not in text
    assert "a machine" in text


def test_the_same_arms_give_the_same_file(tmp_path: Path) -> None:
    """Neither dates nor random names stand in it, so that it can be committed."""
    for name in ("a.svg", "b.svg"):
        plot_frontier(VIEWS, tmp_path / name, title="a machine")

    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", ["f.nothing", "missing/f.svg"])
def test_a_file_that_cannot_be_drawn_is_named(tmp_path: Path, name: str) -> None:
    """An unknown format and a missing folder are one sentence each."""
    with pytest.raises(SetupError, match="cannot be drawn"):
        plot_frontier(VIEWS, tmp_path / name, title="a machine")


def test_what_cannot_be_drawn_is_known_before_anything_is_measured(tmp_path: Path) -> None:
    """Name and folder tell; measuring for minutes first would be for nothing."""
    check_plot(tmp_path / "f.svg")

    with pytest.raises(SetupError, match=r"end its name in \.svg, \.png, \.pdf"):
        check_plot(tmp_path / "f.nothing")
    with pytest.raises(SetupError, match="there is no folder"):
        check_plot(tmp_path / "missing" / "f.svg")


def test_nothing_certified_is_nothing_to_plot(tmp_path: Path) -> None:
    """Arms of unknown accuracy have no place on it."""
    with pytest.raises(CatalogError, match="nothing to plot"):
        plot_frontier(VIEWS[3:], tmp_path / "f.svg", title="a machine")


def test_the_table_marks_ties() -> None:
    """The sign stands before the arm and is explained below the table."""
    table = arms_table(VIEWS)

    arms = list(table.columns[1].cells)
    assert [arm for arm in arms if str(arm).startswith("≈ ")] == ["≈ small@128/cpu/int8/cpu"]
    assert "≈" in str(table.caption)
