"""Runs as pictures: loss and accuracy set by set, and the arms of an ablation side by side."""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

from mnv4serve.errors import BadConfig, TrainError
from mnv4serve.train.ablation import Ablation
from mnv4serve.train.checkpoint import write_whole
from mnv4serve.train.config import RunRecord

SUFFIX = ".svg"

Line = tuple[str, list[float]]


def require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise TrainError("plots need matplotlib: install mnv4serve[plot]")


def check_plot(path: Path) -> None:
    """To be asked before hours are spent on a run that could not be drawn."""
    require_matplotlib()
    if path.suffix != SUFFIX:
        raise BadConfig(f"{path} cannot be drawn: end its name in {SUFFIX}")


def draw_curves(record: RunRecord, path: Path) -> None:
    """Write an SVG with the losses beside the accuracies, epoch by epoch."""
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [point.epoch + 1 for point in record.curve]
    for axes, title, lines in (
        (left, "loss", losses(record)),
        (right, "accuracy", accuracies(record)),
    ):
        for name, values in lines:
            axes.plot(epochs, values, label=name)
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    _save(figure, path)


def draw_arms(ablation: Ablation, path: Path) -> None:
    """Write an SVG with each arm's mean over the seeds, its seeds as dots and its curves."""
    require_matplotlib()
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, (name, average, _) in enumerate(ablation.summary()):
        left.barh(place, average, alpha=0.4)
        left.plot(ablation.of(name), [place] * len(ablation.of(name)), "k.")
        curves = [outcome.curve for outcome in ablation.outcomes if outcome.arm == name]
        means = [mean(values) for values in zip(*curves, strict=True)]
        right.plot(range(1, len(means) + 1), means, label=name)
    everything = [outcome.dev_accuracy for outcome in ablation.outcomes]
    left.set_xlim(min(everything) - 0.02, max(everything) + 0.01)
    left.set_yticks(range(len(ablation.summary())), [row[0] for row in ablation.summary()])
    left.invert_yaxis()
    left.set_title(f"dev accuracy, {ablation.architecture}@{ablation.resolution}")
    right.set_title("during training, mean of the seeds")
    right.set_xlabel("epoch")
    right.legend()
    _save(figure, path)


def losses(record: RunRecord) -> list[Line]:
    """The training loss, then each set's."""
    whole = [point.loss for point in record.curve]
    sets = [(n, [point.sets[n].loss for point in record.curve]) for n in _names(record)]
    return [("training", whole), *sets]


def accuracies(record: RunRecord) -> list[Line]:
    """Accuracy on the dev split, then how often each set's strongest target was met."""
    dev = [point.dev_accuracy for point in record.curve]
    sets = [(n, [point.sets[n].accuracy for point in record.curve]) for n in _names(record)]
    return [("dev", dev), *sets]


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401  # matplotlib has no types here
    svg = BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    write_whole(path, svg.getvalue())


def _names(record: RunRecord) -> list[str]:
    return list(record.curve[-1].sets) if record.curve else []
