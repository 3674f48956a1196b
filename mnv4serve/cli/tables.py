"""Arms as a table."""

from collections.abc import Sequence

from rich.table import Table

from mnv4serve.domain import ArmView


def arms_table(views: Sequence[ArmView], *, live: bool = False) -> Table:
    """Fastest first; `live` adds the expected latency of a typical photo."""
    table = Table(
        title="arms",
        caption="● on the frontier  ○ resident  ≈ not shown to beat a faster one",
        title_justify="left",
    )
    for name in ("", "arm", "accuracy", "p50 ms", "p99 ms", *(["expected ms"] if live else [])):
        number = "ms" in name or name == "accuracy"
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for view in sorted(views, key=lambda view: view.p50_ms):
        cells = [
            "●" if view.on_frontier else "○" if view.resident else "",
            ("≈ " if view.arm.tied_to else "")
            + view.arm.id
            + (" (simulated)" if view.arm.simulated else ""),
            _number(view.arm.accuracy, 4) + (" taken over" if view.arm.accuracy_taken_over else ""),
            _number(view.p50_ms, 2),
            _number(view.p99_ms, 2),
            *([_number(view.expected_ms, 2)] if live else []),
        ]
        table.add_row(*cells, style=None if view.resident else "dim")
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
