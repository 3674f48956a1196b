"""The frontier as a picture."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mnv4serve.domain import ArmView
from mnv4serve.errors import BadConfig, CatalogError, SetupError

SUFFIXES = (".svg", ".png", ".pdf")
MARKERS = "osD^v"
SIZE = 34
ROOM = 0.5
"""Left of the fastest arm, for its name."""
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "mnv4serve", "font.size": 9}
"""Text stays text, and the same arms give the same file."""


def check_plot(file: Path) -> None:
    """To be asked before measuring. Raises SetupError where a picture could not be drawn."""
    if find_spec("matplotlib") is None:
        raise SetupError("plotting needs matplotlib: install mnv4serve[plot]")
    if file.suffix not in SUFFIXES:
        raise BadConfig(f"{file} cannot be drawn: end its name in {', '.join(SUFFIXES)}")
    if not file.parent.is_dir():
        raise SetupError(f"{file} cannot be drawn: there is no folder {file.parent}")


def plot_frontier(views: Sequence[ArmView], file: Path, *, title: str) -> None:
    """Accuracy over service p50, the proven arms as a staircase; the suffix says the format.

    Colours tell checkpoints, shapes tell backends, hollow arms are not on the frontier.
    """
    check_plot(file)
    import matplotlib as mpl  # noqa: PLC0415  # an optional extra

    known = [view for view in views if view.arm.accuracy is not None]
    if not known:
        raise CatalogError("there is nothing to plot: no arm has a certified accuracy")
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        _scatter(axes, known)
        _staircase(axes, sorted((v for v in known if v.on_frontier), key=lambda v: v.p50_ms))
        axes.set(xscale="log", xlabel="service p50, ms", ylabel="accuracy, %", title=title)
        axes.set_xlim(left=ROOM * min(view.p50_ms for view in known))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(loc="lower right", fontsize=8)
        _save(figure, file)
        plt.close(figure)


def _scatter(axes: Any, views: Sequence[ArmView]) -> None:  # noqa: ANN401  # matplotlib has no types
    checkpoints = sorted({_checkpoint(view) for view in views})
    backends = sorted({view.arm.backend for view in views})
    for colour, checkpoint in enumerate(checkpoints):
        for marker, backend in zip(MARKERS, backends, strict=False):
            shown = [
                view
                for view in views
                if (_checkpoint(view), view.arm.backend) == (checkpoint, backend)
            ]
            axes.scatter(
                [view.p50_ms for view in shown],
                [_percent(view) for view in shown],
                label=f"{checkpoint} {backend}" if shown else None,
                s=SIZE,
                marker=marker,
                edgecolors=f"C{colour}",
                facecolors=[f"C{colour}" if view.on_frontier else "none" for view in shown],
                linewidths=1.0,
            )


def _staircase(axes: Any, best: Sequence[ArmView]) -> None:  # noqa: ANN401
    times, heights = [view.p50_ms for view in best], [_percent(view) for view in best]
    axes.step(times, heights, where="post", color="black", linewidth=1, label="frontier", zorder=0)
    for view in best:
        axes.annotate(
            f"{view.arm.variant} {view.arm.precision}",
            (view.p50_ms, _percent(view)),
            xytext=(-4, 6),
            textcoords="offset points",
            fontsize=8,
            horizontalalignment="right",
        )


def _save(figure: Any, file: Path) -> None:  # noqa: ANN401
    dateless = {"Date": None} if file.suffix == ".svg" else None
    try:
        figure.savefig(file, metadata=dateless)
    except (OSError, ValueError) as error:
        raise SetupError(f"{file} cannot be drawn: {error}") from error


def _checkpoint(view: ArmView) -> str:
    return view.arm.variant.split("@")[0]


def _percent(view: ArmView) -> float:
    assert view.arm.accuracy is not None
    return 100 * view.arm.accuracy
