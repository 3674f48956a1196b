"""What `mnv4serve train` does; apart because it needs torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from rich.table import Table

from mnv4serve.cli.options import stderr, stdout, tell
from mnv4serve.errors import TrainError
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.display import ProgressBar
from mnv4serve.train.export import ExportRecord
from mnv4serve.train.export import export as export_weights
from mnv4serve.train.loop import train


def run_training(
    settings: Mapping[str, object], *, export: Path | None, resolutions: Sequence[int]
) -> None:
    """Train to the end, then export where a folder is given."""
    config = _config(settings)
    with ProgressBar(stderr) as bar:
        record = train(config, bar)
    last = record.curve[-1]
    if record.unreadable:
        tell(f"skipped {len(record.unreadable)} unreadable pictures, {record.unreadable[0]} first")
    epochs = len(record.curve)
    tell(f"dev accuracy {last.dev_accuracy:.4f} at {last.resolution} px after {epochs} epochs")
    if export is not None:
        stdout.print(_table(export_weights(config, export, resolutions)))


def _config(settings: Mapping[str, object]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise TrainError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from error


def _table(record: ExportRecord) -> Table:
    table = Table("resolution", "dev", title=f"{record.architecture} ({record.weights})")
    for resolution, accuracy in record.dev_accuracy.items():
        table.add_row(str(resolution), f"{accuracy:.4f}")
    return table
