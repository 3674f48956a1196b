"""Which preparation labels a person's pictures best.

More right answers count, where the probabilities of the right labels say that they are no chance:
these tell ways apart on far fewer pictures than right and wrong do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from mnv4serve.build.foreign.run import Runner, logits
from mnv4serve.build.foreign.values import Way
from mnv4serve.catalog import Network
from mnv4serve.evaluation import reader

Files = Sequence[tuple[Path, int]]
ENOUGH = 256
"""Pictures that a way is tried on; all of them are used when the accuracy is measured."""
LOWEST = -7.0
"""Where the logarithm of a probability is cut off, so that no single picture decides."""
CLEAR = 2.33
"""Standard errors by which a way has to be better on average: one wrong claim in a hundred."""


class Mark(NamedTuple):
    """How a way did on one picture."""

    right: bool
    likelihood: float
    """Logarithm of the probability of the right label."""


Marks = Sequence[Mark | None]
"""Picture by picture; None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The way to take, and what the pictures said about it."""

    way: Way
    sentence: str


def spread(files: Files, enough: int = ENOUGH) -> Files:
    """Some of the pictures, evenly over the classes, which come one behind the other."""
    if len(files) <= enough:
        return files
    return [files[at * len(files) // enough] for at in range(enough)]


@dataclass(frozen=True, slots=True)
class Trial:
    """A network on labelled pictures. Only in a child."""

    runner: Runner
    network: Network
    resolution: int
    n_labels: int
    files: Files


def marks(trial: Trial, way: Way, report: Callable[[], None]) -> Marks:
    """How one way does, picture by picture."""
    read = reader(trial.resolution, way.preprocessing)
    fed = trial.network.model_copy(update={"colours": way.colours})

    def mark(path: Path, label: int) -> Mark | None:
        pixels = read(path)
        report()
        if pixels is None:
            return None
        (answers,) = logits(
            trial.runner, fed, way.preprocessing, pixels[np.newaxis], n_labels=trial.n_labels
        )
        likelihood = answers[label] - np.logaddexp.reduce(answers.astype(np.float64))
        return Mark(bool(answers.argmax() == label), max(float(likelihood), LOWEST))

    return [mark(path, label) for path, label in trial.files]


def decide(ways: Sequence[Way], found: Sequence[Marks]) -> Verdict:
    """The best way where it is shown to be better than the proposed one, which comes first."""
    rows = [[mark for mark in row if mark is not None] for row in found]
    best = max(range(len(ways)), key=lambda at: _share(rows[at]))  # the first of equal ones
    named = [f"{way.name} {_share(row):.1%}" for way, row in zip(ways, rows, strict=True)]
    sentence = f"of {len(rows[0])} pictures right: "
    if best and not _better(rows[best], rows[0]):
        return Verdict(ways[0], f"{sentence}{named[0]}; too few to prefer {named[best]}")
    others = sorted(set(range(len(ways))) - {best}, key=lambda at: -_share(rows[at]))
    close = [at for at in others if not _better(rows[best], rows[at])]
    sentence += named[best]
    if close:
        more = f" and {len(close) - 1} more" if len(close) > 1 else ""
        sentence += f"; too few to rule out {named[close[0]]}{more}"
    elif others:
        sentence += f"; the next best way: {named[others[0]]}"
    return Verdict(ways[best], sentence)


def _better(challenger: Sequence[Mark], other: Sequence[Mark]) -> bool:
    """Whether one way labels more pictures right, and surer of the right labels than by chance.

    Sureness alone says little: many networks are surer of everything on larger numbers.
    """
    pairs = zip(challenger, other, strict=True)
    gains = [mine.likelihood - theirs.likelihood for mine, theirs in pairs]
    deviation = stdev(gains) if len(gains) > 1 else inf
    clear = fmean(gains) > CLEAR * deviation / sqrt(len(gains))
    return clear and _share(challenger) > _share(other)


def _share(row: Sequence[Mark]) -> float:
    return sum(mark.right for mark in row) / len(row)
