"""The tables of `mnv4serve simulate`."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from mnv4serve.simulate.capacity import Demand, Fleet
from mnv4serve.simulate.hardware import Kind
from mnv4serve.simulate.scenario import Scenario
from mnv4serve.simulate.summary import Summary, document

COLUMNS: Mapping[str, str] = {
    "policy": "policy",
    "effective accuracy": "effective_accuracy",
    "on time": "on_time_share",
    "accuracy": "mean_accuracy",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "refused": "refused_share",
    "in vain": "false_miss_share",
    "kept": "promise_kept_share",
    "busy": "utilisation",
}
"""Of the table, and the figures they show."""


def policies_table(scenario: Scenario, found: Sequence[Summary]) -> Table:
    """What each policy came to, the best first."""
    rate = scenario.rate_per_s
    load = rate / scenario.cluster.capacity_per_s()
    table = Table(
        title=f"{scenario.requests} requests, {scenario.arrivals.process}, {rate:.0f}/s = load "
        f"{load:.2f}, budgets {scenario.budgets} ms",
        title_justify="left",
        caption="shares of the requests offered; late, refused and dropped count as wrong",
        caption_justify="left",
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for summary in sorted(found, key=lambda summary: -summary.effective_accuracy):
        row = document(summary)
        table.add_row(*(_cell(row[field]) for field in COLUMNS.values()))
    return table


def fleets_table(kinds: Sequence[Kind], demand: Demand, fleets: Sequence[Fleet]) -> Table:
    """The fleets that were tried; a dot marks those that are enough."""
    table = Table(
        title=f"{demand.scenario.rate_per_s:.0f}/s, {demand.target:g} on time", title_justify="left"
    )
    names = [kind.name for kind in kinds]
    for name in ("", *names, "cost", "on time", "at least", "accuracy", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    for fleet in fleets:
        table.add_row(
            "●" if fleet.enough else "",
            *(str(n) for n in fleet.counts),
            f"{fleet.cost:g}",
            f"{fleet.on_time_share:.4f}",
            f"{fleet.at_least:.4f}",
            f"{fleet.effective_accuracy:.4f}",
            f"{fleet.utilisation:.2f}",
            style=None if fleet.enough else "dim",
        )
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) and value < 1.0 else _large(value)


def _large(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
