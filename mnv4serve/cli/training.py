"""What `mnv4serve train` and `distill` do; apart because it needs torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.table import Table

from mnv4serve.catalog import Catalog, Variant, Zoo
from mnv4serve.cli.options import stderr, stdout, tell
from mnv4serve.cli.progress import progress_bar
from mnv4serve.errors import BadConfig
from mnv4serve.train.config import RunRecord, Start, TrainConfig
from mnv4serve.train.curves import check_plot, draw_curves
from mnv4serve.train.display import ProgressBar
from mnv4serve.train.distill import check_classes, label_mixture
from mnv4serve.train.export import ExportRecord
from mnv4serve.train.export import export as export_weights
from mnv4serve.train.loop import train
from mnv4serve.train.run import training_pictures
from mnv4serve.train.soft_labels import Teacher, Trained, load_teacher
from mnv4serve.train.views import VIEW_SETS, ViewSet

GROUPS = frozenset({"augmentation", "distillation", "shares", "views"})
"""Keys of a configuration that no flag is called after."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """Who teaches which mixture, and where the answers are kept."""

    catalog: Catalog
    zoo: Zoo
    teacher: str
    """One variant or several, separated by commas."""
    mixture: Sequence[tuple[str, float]]
    folder: Path
    start: str | None
    """The variant that the student is cut from."""


def run_training(
    settings: Mapping[str, object],
    *,
    export: Path | None,
    resolutions: Sequence[int],
    plot: Path | None = None,
) -> None:
    """Train to the end, then export and plot where that was asked for."""
    if plot is not None:
        check_plot(plot)
    _finish(read_config(settings), export=export, resolutions=resolutions, plot=plot)


def run_distillation(
    settings: Mapping[str, object],
    teaching: Teaching,
    *,
    export: Path | None,
    resolutions: Sequence[int],
    plot: Path | None = None,
) -> None:
    """Let the teacher answer what is missing, then train the student."""
    if plot is not None:
        check_plot(plot)
    teacher = teacher_of(teaching.catalog, teaching.zoo, teaching.teacher)
    views = [_views(name) for name, _ in teaching.mixture]
    shares = [share for _, share in teaching.mixture]
    chosen = {"views": views, "shares": shares, "teacher": teacher.name, "folder": teaching.folder}
    changes = {"distillation": chosen, "label_smoothing": 0.0, "start": _start(teaching)}
    config = read_config({**settings, **changes})
    pictures = training_pictures(config)
    check_classes(pictures, [label.id for label in teaching.zoo.labels])
    with progress_bar("asking the teacher") as advance:
        label_mixture(
            config, pictures, teacher, lambda done, total: advance(teaching.teacher, done, total)
        )
    _finish(config, export=export, resolutions=resolutions, plot=plot)


def _finish(
    config: TrainConfig, *, export: Path | None, resolutions: Sequence[int], plot: Path | None
) -> None:
    try:
        with ProgressBar(stderr) as bar:
            record = train(config, bar)
    except KeyboardInterrupt:
        if config.checkpoint.exists():
            tell("stopped: the same command goes on after the last whole epoch")
        raise
    _tell(config, record)
    if plot is not None:
        draw_curves(record, plot)
    if export is not None:
        stdout.print(_table(export_weights(config, export, resolutions)))


def _tell(config: TrainConfig, record: RunRecord) -> None:
    last = record.curve[-1]
    if record.unreadable:
        tell(
            f"skipped {len(record.unreadable)} unreadable pictures, {record.unreadable[0]} first: "
            f"{config.record} lists them"
        )
    epochs = len(record.curve)
    tell(f"dev accuracy {last.dev_accuracy:.4f} at {last.resolution} px after {epochs} epochs")


def teacher_of(catalog: Catalog, zoo: Zoo, names: str) -> Teacher:
    """The variant of that name; several, separated by commas, answer together.

    Raises BadConfig unless all look at the same resolution.
    """
    variants = [zoo.variant(name.strip()) for name in names.split(",")]
    if len({variant.resolution for variant in variants}) > 1:
        raise BadConfig("--teacher: those that answer together have to share one resolution")
    return load_teacher(
        [_trained(catalog, zoo, variant) for variant in variants],
        resolution=variants[0].resolution,
        classes=len(zoo.labels),
    )


def _trained(catalog: Catalog, zoo: Zoo, variant: Variant) -> Trained:
    checkpoint = zoo.checkpoint(variant.checkpoint)
    for file in (checkpoint.weights, variant.statistics):
        catalog.read(file)
    return Trained(
        checkpoint.architecture,
        catalog.root / checkpoint.weights.path,
        catalog.root / variant.statistics.path,
    )


def _start(teaching: Teaching) -> Start | None:
    if teaching.start is None:
        return None
    catalog, zoo = teaching.catalog, teaching.zoo
    variant = zoo.variant(teaching.start)
    catalog.read(variant.statistics)  # a ready-made network has none and is refused here
    checkpoint = zoo.checkpoint(variant.checkpoint)
    path = catalog.root / checkpoint.weights.path
    return Start.of(path, name=teaching.start, architecture=checkpoint.architecture)


def _views(name: str) -> ViewSet:
    if name not in VIEW_SETS:
        raise BadConfig(f"--mixture: unknown set {name!r}; there are {', '.join(VIEW_SETS)}")
    return VIEW_SETS[name]


def read_config(settings: Mapping[str, object]) -> TrainConfig:
    """A run's settings; raises BadConfig naming the flag that a wrong one belongs to."""
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        keys = [part for part in first["loc"] if isinstance(part, str) and part not in GROUPS]
        flag = f"--{keys[0].replace('_', '-')}" if keys else "--mixture"
        raise BadConfig(f"{flag}: {first['msg'].removeprefix('Value error, ')}") from error


def _table(record: ExportRecord) -> Table:
    table = Table("resolution", "dev", title=f"{record.architecture} ({record.weights})")
    for resolution, accuracy in record.dev_accuracy.items():
        table.add_row(str(resolution), f"{accuracy:.4f}")
    return table
