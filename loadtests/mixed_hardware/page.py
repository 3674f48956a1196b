"""The findings as one HTML page that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.evaluate.figures import svg
from loadtests.mixed_hardware.asking import Shot
from loadtests.mixed_hardware.findings import (
    DEVICE_LIMIT,
    KINDS,
    PREDICTION_LIMIT,
    Check,
    Line,
    Standing,
    all_p90,
    lines,
)
from loadtests.peers.page import STYLE

COLOURS = dict(zip(KINDS, ("#1f77b4", "#2ca02c", "#9467bd", "#d62728", "#ff7f0e"), strict=True))
SIMULATED = "simulated"
LINE_COLUMNS = (
    "budget ms", "on time", "mostly answered by", "why", "accuracy", "predicted ms", "actual ms",
    "error p90", SIMULATED,
)  # fmt: skip
CHECK_COLUMNS = (
    "arm (simulated)", "model ms", "measured", "with weights", "measured", "device error",
    "service error p90", "prediction error p90",
)  # fmt: skip
Row = tuple[str, ...]
Table = tuple[str, Row, list[Row]]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a page is made of."""

    made: str
    conditions: Mapping[str, Sequence[Shot]]
    arms: Sequence[Mapping[str, Any]]
    """Of the live frontier."""
    checks: Sequence[Check]
    standings: Sequence[Standing]


def holds(found: Found) -> bool:
    """Whether every simulated arm keeps to its model, and the router's predictions for it hold."""
    kept = all(one.device_error <= DEVICE_LIMIT for one in found.checks)
    return kept and all_p90(found.checks) <= PREDICTION_LIMIT


def tables(found: Found) -> list[Table]:
    """Title, columns and rows of each."""
    kinds = [_standing(one) for one in found.standings]
    columns: Row = ("kind", "wins", "why not")
    made: list[Table] = [("Where each kind of device wins", columns, kinds)]
    for name, shots in found.conditions.items():
        made.append((f"Asked {name}", LINE_COLUMNS, [_line(line) for line in lines(shots)]))
    if found.checks:
        title = (
            f"The simulated device beside its model (limit {DEVICE_LIMIT:.0%}) and beside the "
            f"router's prediction of the whole latency: {all_p90(found.checks):.1%} off at p90 "
            f"over all answers (limit {PREDICTION_LIMIT:.0%})"
        )
        made.append((title, CHECK_COLUMNS, [_check(one) for one in found.checks]))
    return made


def _standing(one: Standing) -> Row:
    return (_marked(one.kind, one.simulated), one.wins or "nowhere", one.why_not)


def _line(line: Line) -> Row:
    arm, count = next(iter(line.arms.items()), ("nothing", 0))
    return (
        f"{line.budget_ms:g}",
        f"{line.on_time_share:.0%}",
        f"{_marked(arm, SIMULATED in arm)} {count}/{line.offered}",
        ", ".join(f"{reason} {n}" for reason, n in line.reasons.items()),
        f"{line.accuracy:.4f}",
        f"{line.predicted_ms:.2f}",
        f"{line.total_ms:.2f}",
        f"{line.error_p90:.0%}",
        f"{line.simulated} of {line.answered}" if line.simulated else "",
    )


def _check(one: Check) -> Row:
    return (
        _marked(one.arm, simulated=True),
        f"{one.model_ms:.2f}",
        f"{one.staying_ms:.2f}",
        f"{one.model_ms + one.upload_ms:.2f}",
        f"{one.switching_ms:.2f}",
        f"{one.device_error:.1%}",
        f"{one.service_p90:.1%}",
        f"{one.total_p90:.1%}",
    )


def render(found: Found) -> str:
    """The whole page."""
    opening = (
        f"{escape(found.made)}. Latencies as the service tells them, from the last byte received "
        "to the reply handed over. What a simulated device served carries "
        "<code>simulated=true</code> in its answer and is marked here: its answers are real, its "
        "times those of a calibrated model, and it computes on the processor that it pretends to "
        "relieve."
    )
    title = "Mixed hardware: which arm answers which budget, and why"
    parts = [f"<h1>{title}</h1>", f"<p>{opening}</p>", plot(found)]
    for title, columns, rows in tables(found):
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    head = f'<meta charset="utf-8"><title>Mixed hardware</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}<body>' + "\n".join(parts) + "</body></html>\n"


def plot(found: Found) -> str:
    """Who answered by budget, a panel a condition without a pin; then predicted against actual."""
    free = {name: shots for name, shots in found.conditions.items() if not shots[0].pin}
    figure = Figure(figsize=(4.4 * (len(free) + 1), 3.8), layout="constrained")
    axes = list(figure.subplots(1, len(free) + 1, squeeze=False).flat)
    for axis, (name, shots) in zip(axes, free.items(), strict=False):
        _shares(axis, name, lines(shots))
    _agreement(axes[-1], [shot for shots in found.conditions.values() for shot in shots])
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return svg(figure)


def _shares(axis: Axes, name: str, by_budget: Sequence[Line]) -> None:
    places = range(len(by_budget))
    below = [0.0] * len(by_budget)
    for kind in KINDS:
        shares = [line.kinds.get(kind, 0) / line.offered for line in by_budget]
        hatch = "//" if any(line.simulated for line in by_budget) and kind == "edgetpu" else ""
        axis.bar(places, shares, bottom=below, color=COLOURS[kind], hatch=hatch)
        below = [low + share for low, share in zip(below, shares, strict=True)]
    axis.set_xticks(places, [f"{line.budget_ms:g}" for line in by_budget], fontsize=7)
    axis.set_title(name, fontsize=9)
    axis.set_xlabel("budget ms", fontsize=8)
    axis.set_ylabel("share of requests offered", fontsize=8)
    axis.set_ylim(0.0, 1.0)


def _agreement(axis: Axes, shots: Sequence[Shot]) -> None:
    for kind in KINDS:
        own = [shot for shot in shots if shot.backend == kind]
        if own:
            label = _marked(kind, own[0].simulated)
            predicted = [shot.predicted_ms for shot in own]
            actual = [shot.total_ms for shot in own]
            axis.scatter(predicted, actual, s=4, color=COLOURS[kind], label=label)
    limits = [0.5, 200.0]
    axis.plot(limits, limits, color="black", lw=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title("every answer: predicted and actual latency", fontsize=9)
    axis.set_xlabel("predicted ms", fontsize=8)
    axis.set_ylabel("actual ms", fontsize=8)


def _marked(name: str, simulated: bool) -> str:  # noqa: FBT001
    return f"{name} (simulated)" if simulated else name
