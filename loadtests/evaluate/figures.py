"""Plots as inline SVG, from findings alone."""

import io
import itertools
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.evaluate.comparison import (
    OURS,
    STATIC,
    mean_accuracy,
    rivals,
)
from loadtests.evaluate.records import (
    NO_FAULT,
    SIMULATOR,
    Bound,
    Condition,
    Moment,
    Reliability,
    Result,
    conditions,
    of_policy,
)

_COLOURS = {
    "ramsis": "#1f77b4",
    "slackfit": "#2ca02c",
    "late-binding": "#9467bd",
    "model-switching": "#ff7f0e",
    "clockwork": "#8c564b",
    "infaas": "#e377c2",
    "queue-aware": "#17becf",
    "queue-blind": "#bcbd22",
}
OURS_COLOUR = "#d62728"
_DEPTH = 0.2
"""How far below the bound is shown; what is worse than that lies outside."""
STATIC_LABEL = "best static in hindsight"
_Family = tuple[str, str, str, str]
"""Table, budgets, arrivals, fault: what a line over loads holds fixed."""


def svg(figure: Figure) -> str:
    """The picture as an element that can stand inside HTML, the same for the same findings."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "evaluate", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def effective_accuracy_by_load(results: Sequence[Result], bounds: Sequence[Bound]) -> str:
    """One panel a family without faults, one line a policy, the clairvoyant bound above them."""
    calm = [result for result in results if result.condition.fault == NO_FAULT]
    groups = _families(calm)
    figure, axes = _panels(len(groups))
    for axis, (family, members) in zip(axes, groups.items(), strict=False):
        for name, points in _lines(results, members).items():
            axis.plot(*zip(*points, strict=True), **_style(name))
        limits = [(c.load, _limit(bounds, c)) for c in members]
        known = [(load, value) for load, value in limits if value is not None]
        if known:
            axis.plot(*zip(*known, strict=True), color="black", ls=":", label="LP bound")
            axis.set_ylim(bottom=max(axis.get_ylim()[0], min(v for _, v in known) - _DEPTH))
        _describe(axis, _title(family), "load", "effective accuracy")
    return _finish(figure, axes)


def accuracy_against_on_time(results: Sequence[Result], loads: Sequence[float]) -> str:
    """Where each policy stands with mixed budgets: how often on time, how accurate when it is."""
    chosen = [
        condition
        for condition in conditions(results)
        if condition.load in loads
        and condition.fault == NO_FAULT
        and condition.budgets == "mixed"
        and condition.arrivals in ("poisson", "gamma-cv4")
    ]
    figure, axes = _panels(len(chosen))
    for axis, condition in zip(axes, chosen, strict=False):
        for name in [OURS, *rivals(results, condition)]:
            runs = of_policy(results, condition, name)
            if not runs:
                continue
            on_time = fmean(run.on_time_share for run in runs)
            accuracy = fmean(run.accuracy_on_time for run in runs)
            size = 60 if name == OURS else 30
            axis.scatter(on_time, accuracy, color=_colour(name), label=_label(name), s=size)
        title = f"{_title(_family(condition))}, load {condition.load:g}"
        _describe(axis, title, "on-time share of offered", "accuracy of on-time answers")
    return _finish(figure, axes)


def regret_map(results: Sequence[Result], bounds: Sequence[Bound], policy: str = OURS) -> str:
    """Bound minus what a policy reached, in points, by family and load."""
    groups = _families(results)
    loads = sorted({condition.load for condition in conditions(results)})
    grid = [
        [_regret(results, bounds, policy, members, load) for load in loads]
        for members in groups.values()
    ]
    figure = Figure(figsize=(1.6 + 0.9 * len(loads), 1.2 + 0.4 * len(groups)))
    axis = figure.subplots()
    image = axis.imshow(grid, aspect="auto", cmap="magma_r", vmin=0.0)
    axis.set_xticks(range(len(loads)), [f"{load:g}" for load in loads])
    axis.set_yticks(range(len(groups)), [_title(family) for family in groups])
    deepest = max((v for row in grid for v in row if not math.isnan(v)), default=0.0)
    for row, column in itertools.product(range(len(groups)), range(len(loads))):
        if not math.isnan(value := grid[row][column]):  # where anything was run
            shade = "white" if value > deepest / 2.0 else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=shade)
    axis.set_xlabel("load")
    axis.set_title(f"{policy}: points below the clairvoyant bound")
    figure.colorbar(image, ax=axis)
    return svg(figure)


def reliability(curves: Sequence[Reliability]) -> str:
    """Predicted against observed punctuality; on the diagonal is right."""
    figure, axes = _panels(len(curves))
    for axis, curve in zip(axes, curves, strict=False):
        axis.plot([0, 1], [0, 1], color="grey", lw=0.8)
        predicted, observed, _ = zip(*curve.bins, strict=True)
        axis.plot(predicted, observed, marker="o", color=OURS_COLOUR)
        title = f"{curve.layer}, {curve.name}: error {curve.error:.3f}"
        _describe(axis, title, "predicted", "observed on time")
    return svg(figure)


def burst(moments: Sequence[Moment]) -> str:
    """Offered load, punctuality and the mix of arms through a burst, a column a policy."""
    names = list(dict.fromkeys(moment.policy for moment in moments))
    figure = Figure(figsize=(4.4 * len(names), 6.0), layout="constrained")
    grid = figure.subplots(3, len(names), squeeze=False, sharex=True, sharey="row")
    arms = sorted({arm for moment in moments for arm in moment.mix})
    for column, name in enumerate(names):
        line = [moment for moment in moments if moment.policy == name]
        at_s = [moment.at_s for moment in line]
        offered, accuracy, mix = grid[:, column]
        offered.plot(at_s, [moment.offered_per_s for moment in line], color="black")
        accuracy.plot(at_s, [m.effective_accuracy for m in line], label="effective accuracy")
        accuracy.plot(at_s, [m.on_time_share for m in line], label="on-time share")
        shares = [[moment.mix.get(arm, 0.0) for moment in line] for arm in arms]
        mix.stackplot(at_s, shares, labels=arms)
        offered.set_title(_label(name))
        mix.set_xlabel("seconds")
    for axis, label in zip(grid[:, 0], ("offered/s", "share", "share of requests"), strict=True):
        axis.set_ylabel(label)
    grid[1, -1].legend(fontsize=7)
    grid[2, -1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return svg(figure)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(3, max(count, 1))
    rows = -(-max(count, 1) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.3 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes


def _finish(figure: Figure, axes: Sequence[Axes]) -> str:
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return svg(figure)


def _describe(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.grid(visible=True, alpha=0.3)


def _lines(
    results: Sequence[Result], members: Sequence[Condition]
) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for condition in members:
        for name in [OURS, *rivals(results, condition)]:
            if runs := of_policy(results, condition, name):
                label = STATIC_LABEL if name.startswith(STATIC) else name
                lines.setdefault(label, []).append((condition.load, mean_accuracy(runs)))
    return {name: sorted(points) for name, points in lines.items()}


def _families(results: Sequence[Result]) -> dict[_Family, list[Condition]]:
    groups: dict[_Family, list[Condition]] = {}
    for condition in conditions(r for r in results if r.layer == SIMULATOR):
        groups.setdefault(_family(condition), []).append(condition)
    return groups


def _family(condition: Condition) -> _Family:
    return condition.table, condition.budgets, condition.arrivals, condition.fault


def _title(family: _Family) -> str:
    table, budgets, arrivals, fault = family
    return ", ".join([table, budgets, arrivals, *([fault] if fault != "none" else [])])


def _limit(bounds: Sequence[Bound], condition: Condition) -> float | None:
    found = [bound.effective_accuracy for bound in bounds if bound.condition == condition]
    return fmean(found) if found else None


def _regret(
    results: Sequence[Result],
    bounds: Sequence[Bound],
    policy: str,
    members: Sequence[Condition],
    load: float,
) -> float:
    for condition in members:
        if condition.load != load:
            continue
        limit, runs = _limit(bounds, condition), of_policy(results, condition, policy)
        if limit is not None and runs:
            return 100.0 * (limit - mean_accuracy(runs))
    return float("nan")


def _style(name: str) -> dict[str, Any]:
    ours = name == OURS
    return {
        "color": _colour(name),
        "label": _label(name),
        "marker": "o",
        "ms": 3,
        "lw": 2.2 if ours else 1.1,
        "ls": "--" if name == STATIC_LABEL else "-",
        "zorder": 3 if ours else 2,
    }


def _label(name: str) -> str:
    return STATIC_LABEL if name.startswith(STATIC) else name


def _colour(name: str) -> str:
    """The same in every panel, whichever policies are in it."""
    if name == OURS:
        return OURS_COLOUR
    if name.startswith((STATIC, STATIC_LABEL)):
        return "dimgrey"
    return _COLOURS.get(name, "black")
