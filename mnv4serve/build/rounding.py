"""Choosing the ranges of int8 by what rounding costs on the dev split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.artifacts import Target, available_targets, unfit
from mnv4serve.backends import probe
from mnv4serve.build.assemble import reference_model
from mnv4serve.build.catalog_file import with_variant
from mnv4serve.build.files import write_file
from mnv4serve.build.findings import Rounding
from mnv4serve.build.graph import capture
from mnv4serve.build.judge import Judge, is_dev
from mnv4serve.build.ranges import USUAL, calibrate, format_ranges
from mnv4serve.catalog import Catalog, Checkpoint, Preprocessing, Variant, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import ArtifactMismatch
from mnv4serve.evaluation import Score, labelled_files, reader
from mnv4serve.significance import loss_bound

BACKENDS = (BackendName.CPU, BackendName.ONNX, BackendName.LITERT, BackendName.CUDA)
"""Whose artifacts are certified where this machine can run them; others are held to the first."""
BATCH = 8
LARGEST_LOSS = 0.01


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to compute quantisation ranges."""

    name: str
    usual: float = USUAL
    pictures: int = 512


ATTEMPTS = (
    Attempt("the usual peaks of 512 pictures"),
    Attempt("every peak of 512 pictures", usual=1.0),
    Attempt("the peaks of nine pictures in ten", usual=0.9),
    Attempt("the usual peaks of 4,096 pictures", pictures=4096),
)
"""Tried in this order until int8 loses little enough on dev. A network that fails them all is
served in its other precisions, unless a request pins int8."""


@dataclass(frozen=True, slots=True)
class Ranged:
    """A variant with ranges, and what rounding to them costs each backend."""

    variant: Variant
    content: bytes
    rounding: tuple[Rounding, ...]

    @property
    def accepted(self) -> bool:
        return all(one.accepted for one in self.rounding)

    @property
    def bound(self) -> float:
        return max((one.bound for one in self.rounding), default=0.0)


def targets_of(zoo: Zoo, variant: Variant) -> tuple[Target, ...]:
    """What this machine can build of a variant."""
    offered = available_targets(variant, [probe(name) for name in BACKENDS])
    return tuple(target for target in offered if not unfit(zoo, target))


def exact_target(zoo: Zoo, variant: Variant) -> Target:
    """The artifact that others are compared with: fp32 on the first backend that has it."""
    return next(t for t in targets_of(zoo, variant) if t.precision is Precision.FP32)


def choose_ranges(
    catalog: Catalog,
    checkpoint: Checkpoint,
    variant: Variant,
    judge: Judge,
    *,
    attempts: Sequence[Attempt] = ATTEMPTS,
    largest_loss: float = LARGEST_LOSS,
) -> tuple[Ranged, tuple[Rounding, ...]]:
    """The first attempt that costs no backend too much, else the least costly; then all others.

    One attempt is made where dev has so few pictures that none could be shown to be good enough.
    Where every attempt is so far off that its builds are refused, the variant has no int8.
    """
    exact = judge.on_dev(catalog, exact_target(catalog.zoos[judge.zoo], variant))
    enough = loss_bound(won=0, lost=0, n=exact.n) < largest_loss
    if not enough:
        judge.report(
            f"{variant.name}: int8 is used only where it is asked for, as {exact.n} pictures of "
            f"dev cannot show that it loses less than {largest_loss:.0%}"
        )
    tried: list[Ranged] = []
    for attempt in attempts if enough else attempts[:1]:
        content = _content(catalog, variant, judge, attempt)
        file = write_file(catalog, f"weights/{judge.zoo}/{variant.name}.ranges.json", content)
        ranged = variant.model_copy(update={"ranges": file})
        trial = with_variant(catalog, judge.zoo, checkpoint, ranged)
        rounded = _int8(trial.zoos[judge.zoo], ranged)
        try:
            answers = {target.backend: judge.on_dev(trial, target) for target in rounded}
        except ArtifactMismatch as error:
            judge.report(f"{error}; its ranges were {attempt.name}")
            continue
        rounding = [_compared(attempt, b, exact, s, largest_loss) for b, s in answers.items()]
        tried.append(Ranged(ranged, content, tuple(rounding)))
        if tried[-1].accepted or not enough:
            break
        judge.report(f"{variant.name}: int8 may lose {tried[-1].bound:.4f} with {attempt.name}")
    best = min(tried, key=lambda one: one.bound, default=Ranged(variant, b"", ()))
    if best.variant.ranges is not None:
        write_file(catalog, best.variant.ranges.path, best.content)
    return best, tuple(one for other in tried if other is not best for one in other.rounding)


def _int8(zoo: Zoo, variant: Variant) -> list[Target]:
    return [target for target in targets_of(zoo, variant) if target.precision is Precision.INT8]


def calibration_files(files: Sequence[Path], count: int = 512) -> list[Path]:
    """A fixed choice of training pictures that leaves the dev split out.

    Both go by the hash of the file name, so that neither order nor machine matters.
    """
    digests = {path: hashlib.sha256(path.name.encode()).hexdigest() for path in files}
    usable = [path for path in files if not is_dev(path)]
    return sorted(usable, key=digests.__getitem__)[:count]


def _content(catalog: Catalog, variant: Variant, judge: Judge, attempt: Attempt) -> bytes:
    zoo = catalog.zoos[judge.zoo]
    graph = capture(reference_model(catalog, zoo, variant), variant.resolution)
    train = [path for path, _ in labelled_files(judge.sources.train, zoo.labels)]
    preprocessing = zoo.preprocessing_of(variant.name)
    files = calibration_files(train, attempt.pictures)
    batches = _decoded(files, variant.resolution, preprocessing)
    return format_ranges(
        calibrate(graph, preprocessing, variant.resolution, batches, usual=attempt.usual)
    )


def _compared(
    attempt: Attempt, backend: BackendName, exact: Score, rounded: Score, largest_loss: float
) -> Rounding:
    won = int((rounded.correct & ~exact.correct).sum())
    lost = int((exact.correct & ~rounded.correct).sum())
    bound = loss_bound(won=won, lost=lost, n=exact.n)
    return Rounding(
        attempt=attempt.name,
        backend=backend,
        won=won,
        lost=lost,
        n=exact.n,
        bound=round(bound, 5),
        accepted=bound < largest_loss,
    )


def _decoded(
    files: Sequence[Path], resolution: int, preprocessing: Preprocessing
) -> Iterator[NDArray[np.uint8]]:
    """Batches of those that are readable pictures."""
    read = reader(resolution, preprocessing)
    for start in range(0, len(files), BATCH):
        batch = map(read, files[start : start + BATCH])
        readable = [pixels for pixels in batch if pixels is not None]
        if readable:
            yield np.stack(readable)
