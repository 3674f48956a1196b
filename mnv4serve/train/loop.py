"""Trains one network on a folder of class folders, epoch by epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import save_checkpoint, write_whole
from mnv4serve.train.config import Epoch, RunRecord, TrainConfig
from mnv4serve.train.data import Pictures
from mnv4serve.train.distill import DistilledFeed
from mnv4serve.train.evaluate import Labelled, accuracy
from mnv4serve.train.feed import Batch, Feed, LabelledFeed
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
from mnv4serve.train.tally import Tally

__all__ = ["Progress", "Report", "RunRecord", "TrainConfig", "train"]


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
    feed = DistilledFeed if config.distillation else LabelledFeed
    trainer = Trainer(config, run, pictures, feed(config, pictures), report)
    while len(run.curve) < config.epochs:
        point = trainer.epoch()
        _refuse_broken(run)
        run.curve.append(point)
        save_checkpoint(config.checkpoint, snapshot(config, run, pictures))
        record = describe(config, run, pictures)
        write_whole(config.record, record.model_dump_json(indent=1).encode())
    return describe(config, run, pictures)


class Trainer:
    """Runs one epoch at a time; what it does depends on the seed and the epoch's number only."""

    def __init__(
        self, config: TrainConfig, run: Run, pictures: Pictures, feed: Feed, report: Progress
    ) -> None:
        self.config = config
        self.run = run
        self.pictures = pictures
        self.feed = feed
        self.report = report
        self.work = [config.work_of(epoch) for epoch in range(config.epochs)]
        self.work_before = sum(self.work[: len(run.curve)])
        self.began = time.monotonic()
        self.dev_resolution = 0
        self.dev: Labelled

    def epoch(self) -> Epoch:
        """One pass over the training pictures, then the average's accuracy on the dev split."""
        number = len(self.run.curve)
        resolutions = self.config.resolutions_at(number)
        self.prepare(resolutions)
        random = np.random.default_rng([self.config.seed, number])
        began, tally = time.monotonic(), Tally()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.config.seed + number)
            for batch in self.feed.batches(number, random):
                passed = number + tally.steps / self.feed.steps
                step(self.config, self.run, batch, passed, tally)
                self.tell(passed, tally, time.monotonic() - began)
        seconds = time.monotonic() - began
        return Epoch(
            epoch=number,
            resolution=max(resolutions),
            loss=tally.loss,
            dev_accuracy=accuracy(self.run.average, self.dev, max(resolutions)),
            seconds=seconds,
            pictures_per_s=tally.steps * self.config.batch_size / seconds,
            sets=tally.sets(),
        )

    def prepare(self, resolutions: tuple[int, ...]) -> None:
        """Bring both splits into memory at the sizes that an epoch needs."""
        self.feed.prepare(resolutions)
        if self.dev_resolution != max(resolutions):
            self.dev_resolution = max(resolutions)
            self.dev = labelled(self.pictures, self.dev_resolution, dev=True)

    def tell(self, epochs_passed: float, tally: Tally, epoch_s: float) -> None:
        """Report progress in work, which grows with the pixels."""
        whole = int(epochs_passed)
        done = sum(self.work[:whole]) + self.work[whole] * (epochs_passed - whole)
        total, since = sum(self.work), done - self.work_before
        elapsed = time.monotonic() - self.began
        curve = self.run.curve
        report = Report(
            stage=f"epoch {whole + 1}/{self.config.epochs}",
            share=done / total,
            eta_s=elapsed / since * (total - done) if since else math.inf,
            pictures_per_s=tally.steps * self.config.batch_size / epoch_s,
            loss=tally.loss,
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


def step(config: TrainConfig, run: Run, batch: Batch, epochs_passed: float, tally: Tally) -> None:
    """One step of the optimiser; a loss that is no number ends the run before it does harm."""
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(config, epochs_passed)
    logits = run.model(batch.images)
    losses = cross_entropy(
        logits, batch.targets, reduction="none", label_smoothing=config.label_smoothing
    )
    loss = losses.mean()
    tally.add(loss.item(), losses.detach(), logits.detach(), batch)
    if not math.isfinite(tally.last):
        raise _diverged(f"the loss became {tally.last}", run)
    run.optimiser.zero_grad()
    torch.autograd.backward(loss)
    run.optimiser.step()
    run.average.update_parameters(run.model)


def _refuse_broken(run: Run) -> None:
    """The last step of an epoch may ruin the weights after its loss was still a number."""
    for model in (run.model, run.average):
        for name, value in model.state_dict().items():
            if not value.isfinite().all():
                raise _diverged(f"{name} is no number any more", run)


def _diverged(what: str, run: Run) -> TrainError:
    kept = "the checkpoint of the epoch before is kept" if run.curve else "nothing is kept"
    return TrainError(f"{what} in epoch {len(run.curve) + 1}; {kept}: try a lower --learning-rate")


def _silent(_: Report) -> None:
    """Whoever gave no progress callable wants no reports."""
