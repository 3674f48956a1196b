"""Which preparation labels a person's pictures best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnv4serve.build.foreign.run import Runner, logits
from mnv4serve.build.foreign.values import Way
from mnv4serve.catalog import Network
from mnv4serve.evaluation import reader
from mnv4serve.significance import ALPHA, mcnemar

Files = Sequence[tuple[Path, int]]
ENOUGH = 256
"""Pictures that a way is tried on; all of them are used when the accuracy is measured."""

Marks = Sequence[bool | None]
"""Picture by picture, whether its label came out first; None where it cannot be read."""


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

    def right(path: Path, label: int) -> bool | None:
        pixels = read(path)
        report()
        if pixels is None:
            return None
        batch = pixels[np.newaxis]
        answers = logits(trial.runner, fed, way.preprocessing, batch, n_labels=trial.n_labels)
        return bool(answers[0].argmax() == label)

    return [right(path, label) for path, label in trial.files]


def decide(ways: Sequence[Way], found: Sequence[Marks]) -> Verdict:
    """The best way where it is shown to be better than the proposed one, which comes first."""
    rows = [[mark for mark in row if mark is not None] for row in found]
    n = len(rows[0])
    best = max(range(len(ways)), key=lambda at: sum(rows[at]))  # the first of equal ones
    if best and _p(rows[best], rows[0]) > ALPHA / len(ways):
        sentence = (
            f"{ways[0].name} stays: {_share(rows[0])}, and no other way is shown to be better "
            f"({ways[best].name} {_share(rows[best])})"
        )
        return Verdict(ways[0], sentence)
    rivals = [at for at in range(len(ways)) if at != best]
    close = [at for at in rivals if _p(rows[best], rows[at]) > ALPHA / len(ways)]
    sentence = f"{ways[best].name} labels {_share(rows[best])} of {n} pictures right"
    if close:
        second = max(close, key=lambda at: sum(rows[at]))
        more = f" and {len(close) - 1} more" if len(close) > 1 else ""
        sentence += f", which does not rule out {ways[second].name} ({_share(rows[second])}){more}"
    elif rivals:
        second = max(rivals, key=lambda at: sum(rows[at]))
        sentence += f", the next best way ({ways[second].name}) {_share(rows[second])}"
    return Verdict(ways[best], sentence)


def _p(challenger: Sequence[bool], other: Sequence[bool]) -> float:
    pairs = list(zip(challenger, other, strict=True))
    won = sum(mine and not theirs for mine, theirs in pairs)
    return mcnemar(won=won, lost=sum(theirs and not mine for mine, theirs in pairs))


def _share(row: Sequence[bool]) -> str:
    return f"{sum(row) / len(row):.1%}"
