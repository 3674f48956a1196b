"""Arms as a table and as a plot."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mnv4serve.domain import ArmView
from mnv4serve.errors import BackendUnavailable, SetupError


def arms_table(views: Sequence[ArmView], *, live: bool = False) -> Table:
    """Fastest first; `live` adds the expected latency of a typical photo."""
    table = Table(title="arms", caption="● on the frontier  ○ resident", title_justify="left")
    for name in ("", "arm", "accuracy", "p50 ms", "p99 ms", *(["expected ms"] if live else [])):
        number = "ms" in name or name == "accuracy"
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for view in sorted(views, key=lambda view: view.p50_ms):
        cells = [
            "●" if view.on_frontier else "○" if view.resident else "",
            view.arm.id + (" (simulated)" if view.arm.simulated else ""),
            _number(view.arm.accuracy, 4) + (" published" if view.arm.accuracy_published else ""),
            _number(view.p50_ms, 2),
            _number(view.p99_ms, 2),
            *([_number(view.expected_ms, 2)] if live else []),
        ]
        table.add_row(*cells, style=None if view.resident else "dim")
    return table


def plot_frontier(views: Sequence[ArmView], file: Path, *, title: str) -> None:
    """Accuracy over service p50 with the frontier as a staircase; the suffix says the format."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  # an optional extra

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError as error:
        raise SetupError("plotting needs matplotlib: install mnv4serve[plot]") from error
    known = [view for view in views if view.arm.accuracy is not None]
    if not known:
        raise BackendUnavailable("plot", "no arm has a certified accuracy")
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for backend in sorted({view.arm.backend for view in known}):
        shown = [view for view in known if view.arm.backend == backend]
        axes.scatter(
            [view.p50_ms for view in shown], [_percent(view) for view in shown], label=backend, s=28
        )
    best = sorted((view for view in known if view.on_frontier), key=lambda view: view.p50_ms)
    axes.step(
        [view.p50_ms for view in best], [_percent(view) for view in best],
        where="post", color="black", linewidth=1, label="frontier",
    )  # fmt: skip
    for view in best:
        name = f"{view.arm.variant} {view.arm.precision}"
        axes.annotate(
            name, (view.p50_ms, _percent(view)), xytext=(5, -10), textcoords="offset points",
            fontsize=8,
        )  # fmt: skip
    axes.set(xscale="log", xlabel="service p50, ms", ylabel="accuracy, %", title=title)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="lower right")
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise SetupError(f"{file} cannot be drawn: {error}") from error
    plt.close(figure)


def _percent(view: ArmView) -> float:
    assert view.arm.accuracy is not None
    return 100 * view.arm.accuracy


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
