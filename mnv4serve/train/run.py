"""A training run between two epochs: begun, continued from disk, saved, described."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel

from mnv4serve.arch.blocks import DropPath
from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import Checkpoint, load_checkpoint
from mnv4serve.train.config import Epoch, RunRecord, TrainConfig
from mnv4serve.train.data import Advance, Pictures, load_pictures, split_folders
from mnv4serve.train.evaluate import Labelled
from mnv4serve.train.initial import read_start, start_from
from mnv4serve.train.optimise import build_average, build_optimiser


@dataclass(slots=True)
class Run:
    """The parts of a run that change, and the epochs behind it."""

    model: MobileNetV4
    average: AveragedModel
    optimiser: AdamW
    started: str
    curve: list[Epoch]


def training_pictures(config: TrainConfig, advance: Advance | None = None) -> Pictures:
    """The decoded training folder, refused where a split of it is too small."""
    folder, _ = split_folders(config.data)
    pictures = load_pictures(folder, config.cache_folder, size=config.picture_size, advance=advance)
    train_count, dev_count = (len(pictures.rows(dev=dev)) for dev in (False, True))
    if train_count < config.batch_size or not dev_count:
        raise TrainError(
            f"{folder} has too few pictures: {train_count} to train on where one batch needs "
            f"{config.batch_size}, and {dev_count} to judge by: add some or lower --batch-size"
        )
    return pictures


def labelled(pictures: Pictures, size: int, *, dev: bool) -> Labelled:
    """One split of a data set, resized."""
    rows = pictures.rows(dev=dev)
    return Labelled(pictures.resized(rows, size), pictures.labels(rows))


def begin(config: TrainConfig, pictures: Pictures) -> Run:
    """A run before its first epoch."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        model = create_model(config.architecture, len(pictures.index.classes))
    if config.drop_path is not None:
        _set_drop_path(model, config.drop_path)
    if config.start is not None:
        start_from(model, read_start(config.start), config.start.architecture)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Run(model, build_average(model, config.ema), build_optimiser(model, config), _now(), [])


def restore(config: TrainConfig, pictures: Pictures) -> Run | None:
    """The run in the checkpoint, refused where it was started with another recipe or data."""
    if not config.checkpoint.exists():
        return None
    saved = load_checkpoint(config.checkpoint)
    if different := [*_differences(saved, config, pictures)]:
        raise TrainError(
            f"{config.checkpoint} belongs to a run with other {' and '.join(different)}: start "
            "afresh with --no-resume, or in another folder with --out"
        )
    run = begin(config, pictures)
    run.model.load_state_dict(saved["model"])
    run.average.load_state_dict(saved["average"])
    run.optimiser.load_state_dict(dict(saved["optimiser"]))
    run.started = saved["started"]
    run.curve = [Epoch.model_validate(point) for point in saved["curve"]]
    return run


def _differences(saved: Checkpoint, config: TrainConfig, pictures: Pictures) -> Iterator[str]:
    """What keeps a checkpoint from being gone on with; settings it does not name had defaults."""
    try:
        folders = {"data": config.data, "out": config.out}
        then = TrainConfig.model_validate({**saved["recipe"], **folders}).recipe()
    except ValidationError:
        yield "settings than this version knows"
        return
    yield from (name for name, value in config.recipe().items() if then[name] != value)
    if saved["data_hash"] != pictures.index.data_hash:
        yield "pictures"


def snapshot(config: TrainConfig, run: Run, pictures: Pictures) -> Checkpoint:
    return Checkpoint(
        recipe=config.recipe(),
        data_hash=pictures.index.data_hash,
        started=run.started,
        model=run.model.state_dict(),
        average=run.average.state_dict(),
        optimiser=run.optimiser.state_dict(),
        curve=[point.model_dump() for point in run.curve],
    )


def describe(config: TrainConfig, run: Run, pictures: Pictures) -> RunRecord:
    """The record of a run so far; it names the data folder but not where it lies."""
    return RunRecord(
        command=config.command(),
        recipe=config.recipe(),
        classes=pictures.index.classes,
        data_hash=pictures.index.data_hash,
        train_pictures=len(pictures.rows(dev=False)),
        dev_pictures=len(pictures.rows(dev=True)),
        unreadable=pictures.index.unreadable,
        started=run.started,
        updated=_now(),
        curve=tuple(run.curve),
    )


def _set_drop_path(model: nn.Module, highest: float) -> None:
    drops = [module for module in model.modules() if isinstance(module, DropPath)]
    for index, module in enumerate(drops):
        module.rate = highest * index / len(drops)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
