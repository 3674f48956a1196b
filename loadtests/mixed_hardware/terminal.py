"""The findings for a terminal of 80 columns: names stay whole, what else there is to say wraps."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtests.mixed_hardware.findings import (
    DEVICE_LIMIT,
    PREDICTION_LIMIT,
    Check,
    Line,
    Standing,
    all_p90,
    lines,
)
from loadtests.mixed_hardware.page import Found

WIDTH = 80
ARM_WIDTH = 31
"""Of the longest variant with backend and precision; its device goes without saying."""


def show(found: Found, console: Console) -> None:
    for part in _parts(found):
        console.print(part, highlight=False)


def _parts(found: Found) -> Iterable[RenderableType]:
    yield _standings(found.standings)
    for name, shots in found.conditions.items():
        yield _lines(f"Asked {name}", lines(shots))
    if found.checks:
        yield _checks(found.checks)


def _table(title: str, *columns: str) -> Table:
    """Numbers after a name, or names after a number."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for column in columns:
        name = column.startswith("arm")
        table.add_column(
            column,
            justify="left" if name else "right",
            min_width=ARM_WIDTH if name else None,
            no_wrap=not name,
        )
    return table


def _standings(standings: Sequence[Standing]) -> RenderableType:
    told = [
        Text(
            f"{_marked(one.kind, simulated=one.simulated)}: {one.wins or f'nowhere, {one.why_not}'}"
        )
        for one in standings
    ]
    return Group(Text("Where each kind of device wins", style="italic"), *told)


def _lines(title: str, found: Sequence[Line]) -> Table:
    table = _table(
        title, "budget\nms", "on\ntime", "arm that answered most,\nand why", "accuracy",
        "pred.\nms", "real\nms", "error\np90",
    )  # fmt: skip
    for line in found:
        table.add_row(
            f"{line.budget_ms:g}",
            f"{line.on_time_share:.0%}",
            _answered(line),
            f"{line.accuracy:.4f}",
            f"{line.predicted_ms:.2f}",
            f"{line.total_ms:.2f}",
            f"{line.error_p90:.0%}",
        )
    return table


def _answered(line: Line) -> str:
    arm, count = next(iter(line.arms.items()), ("nothing", 0))
    reasons = ", ".join(f"{reason} {n}" for reason, n in line.reasons.items())
    marked = f", {line.simulated} simulated" if line.simulated else ""
    return f"{_short(arm)}\n{count} of {line.offered}{marked}: {reasons or 'no answer'}"


def _checks(checks: Sequence[Check]) -> Table:
    title = (
        f"The simulated device beside its model, at most {DEVICE_LIMIT:.0%} off, and its answers "
        f"beside the router's predictions, {all_p90(checks):.1%} off at p90 over all, at most "
        f"{PREDICTION_LIMIT:.0%}"
    )
    table = _table(
        title, "arm (simulated)", "model\nms", "real\nms", "with\nweights", "real\nms", "off",
        "router\np90",
    )  # fmt: skip
    for one in checks:
        table.add_row(
            _short(one.arm),
            f"{one.model_ms:.2f}",
            f"{one.staying_ms:.2f}",
            f"{one.model_ms + one.upload_ms:.2f}",
            f"{one.switching_ms:.2f}",
            f"{one.device_error:.1%}",
            f"{one.total_p90:.1%}",
        )
    return table


def _short(arm: str) -> str:
    return "/".join(arm.split("/")[:3])


def _marked(name: str, *, simulated: bool) -> str:
    return f"{name} (simulated)" if simulated else name
