"""Trains one architecture from scratch on a folder of class folders."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import cross_entropy

from mnv4serve.errors import TrainError
from mnv4serve.train.augment import augment, mix
from mnv4serve.train.checkpoint import save_checkpoint, write_whole
from mnv4serve.train.config import Epoch, RunRecord, TrainConfig
from mnv4serve.train.data import Pictures
from mnv4serve.train.evaluate import Labelled, accuracy
from mnv4serve.train.optimise import learning_rate
from mnv4serve.train.run import (
    Run,
    begin,
    describe,
    labelled,
    restore,
    snapshot,
    training_pictures,
)

__all__ = ["Progress", "Report", "RunRecord", "TrainConfig", "train"]

SOURCE_OVERSIZE = 1.5
"""Training pictures are kept this much larger than the resolution, so that crops stay sharp."""


@dataclass(frozen=True, slots=True)
class Report:
    """How far a run has come; sent after each step, and for each picture decoded before them."""

    stage: str
    share: float
    eta_s: float
    pictures_per_s: float
    loss: float | None = None
    dev_accuracy: float | None = None


Progress = Callable[[Report], None]


def train(config: TrainConfig, progress: Progress | None = None) -> RunRecord:
    """Train to the last epoch, going on from a checkpoint where there is one."""
    report = progress or _silent
    if config.threads:
        torch.set_num_threads(config.threads)
    pictures = training_pictures(config, Decoding(report))
    run = restore(config, pictures) if config.resume else None
    run = run or begin(config, pictures)
    trainer = Trainer(config, run, pictures, report)
    while len(run.curve) < config.epochs:
        run.curve.append(trainer.epoch())
        save_checkpoint(config.checkpoint, snapshot(config, run, pictures))
        record = describe(config, run, pictures)
        write_whole(config.record, record.model_dump_json(indent=1).encode())
    return describe(config, run, pictures)


class Trainer:
    """Runs one epoch at a time; what it does depends on the seed and the epoch's number only."""

    def __init__(self, config: TrainConfig, run: Run, pictures: Pictures, report: Progress) -> None:
        self.config = config
        self.run = run
        self.pictures = pictures
        self.report = report
        self.work = [config.resolution_at(epoch) ** 2 for epoch in range(config.epochs)]
        self.work_before = sum(self.work[: len(run.curve)])
        self.began = time.monotonic()
        self.resolution = 0
        self.train: Labelled
        self.dev: Labelled

    def epoch(self) -> Epoch:
        """One pass over the training pictures, then the average's accuracy on the dev split."""
        number = len(self.run.curve)
        resolution = self.config.resolution_at(number)
        self.prepare(resolution)
        random = np.random.default_rng([self.config.seed, number])
        began = time.monotonic()
        losses: list[float] = []
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.config.seed + number)
            for images, targets in self.batches(random):
                passed = number + len(losses) * self.config.batch_size / len(self.train.labels)
                losses.append(step(self.config, self.run, images, targets, passed))
                self.tell(passed, losses, time.monotonic() - began)
        seconds = time.monotonic() - began
        return Epoch(
            epoch=number,
            resolution=resolution,
            loss=sum(losses) / len(losses),
            dev_accuracy=accuracy(self.run.average, self.dev, resolution),
            seconds=seconds,
            pictures_per_s=len(losses) * self.config.batch_size / seconds,
        )

    def prepare(self, resolution: int) -> None:
        """Bring both splits into memory at the size that a resolution needs."""
        if resolution == self.resolution:
            return
        oversize = min(int(resolution * SOURCE_OVERSIZE), self.config.picture_size)
        self.train = labelled(self.pictures, max(oversize, resolution), dev=False)
        self.dev = labelled(self.pictures, resolution, dev=True)
        self.resolution = resolution

    def batches(self, random: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented pictures and soft targets in a new order; an incomplete batch is left out."""
        size, settings = self.config.batch_size, self.config.augmentation
        order = torch.from_numpy(random.permutation(len(self.train.labels)))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            views = augment(self.train.pictures[rows], self.resolution, settings, random)
            labels, classes = self.train.labels[rows], self.run.model.num_classes
            images, targets = mix(views, labels, classes, settings, random)
            yield images.contiguous(memory_format=torch.channels_last), targets

    def tell(self, epochs_passed: float, losses: list[float], epoch_s: float) -> None:
        """Report progress in work, which grows with the square of the resolution."""
        whole = int(epochs_passed)
        done = sum(self.work[:whole]) + self.work[whole] * (epochs_passed - whole)
        total, since = sum(self.work), done - self.work_before
        elapsed = time.monotonic() - self.began
        curve = self.run.curve
        report = Report(
            stage=f"epoch {whole + 1}/{self.config.epochs}",
            share=done / total,
            eta_s=elapsed / since * (total - done) if since else math.inf,
            pictures_per_s=len(losses) * self.config.batch_size / epoch_s,
            loss=sum(losses) / len(losses),
            dev_accuracy=curve[-1].dev_accuracy if curve else None,
        )
        self.report(report)


class Decoding:
    """Turns counts of decoded files into reports."""

    def __init__(self, report: Progress) -> None:
        self.report = report
        self.began = time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        elapsed = time.monotonic() - self.began
        eta_s = elapsed / done * (count - done)
        self.report(Report("decoding", done / count, eta_s, done / elapsed))


def step(
    config: TrainConfig, run: Run, images: Tensor, targets: Tensor, epochs_passed: float
) -> float:
    """One step of the optimiser; a loss that is no number ends the run before it does harm."""
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(config, epochs_passed)
    loss = cross_entropy(run.model(images), targets, label_smoothing=config.label_smoothing)
    value = loss.item()
    if not math.isfinite(value):
        raise TrainError(
            f"the loss became {value} in epoch {len(run.curve) + 1}; the checkpoint of the epoch "
            "before is kept, a lower learning rate may help"
        )
    run.optimiser.zero_grad()
    torch.autograd.backward(loss)
    run.optimiser.step()
    run.average.update_parameters(run.model)
    return value


def _silent(_: Report) -> None:
    """Whoever gave no progress callable wants no reports."""
