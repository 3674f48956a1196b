"""What `train` and `distill` share: options of a run, and how their texts are read."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.arch.specs import ARCHITECTURES, RESOLUTION_STEP
from mnv4serve.errors import TrainError

RunFolder = Annotated[Path, typer.Option(help="Folder for checkpoint, run record and cache.")]
ARCHITECTURE_HELP = f"One of {', '.join(ARCHITECTURES)}."
ArchitectureName = Annotated[str, typer.Option(help=ARCHITECTURE_HELP)]
ScheduleText = Annotated[
    str,
    typer.Option(
        metavar="SHARE:PX,...",
        help="Resolutions by share of the epochs; in 0.2:96+160 each batch draws one of two.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, show_default="all cores")]
Resume = Annotated[bool, typer.Option(help="Go on from the last checkpoint.")]
ExportFolder = Annotated[
    Path | None, typer.Option(help="Folder for the weights once the run has ended.")
]
ResolutionsText = Annotated[
    str, typer.Option(metavar="PX,...", help="To export batch-norm statistics for.")
]
PlotFile = Annotated[
    Path | None, typer.Option(help="SVG of the run's curves; needs mnv4serve[plot].")
]


def require_torch() -> None:
    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise TrainError("training needs torch: install mnv4serve[train]")


def read_schedule(text: str) -> list[tuple[float, tuple[int, ...]]]:
    """Shares of the epochs with the resolutions that their batches draw from."""
    try:
        parts = [part.split(":") for part in text.split(",")]
        return [(float(share), tuple(map(int, sizes.split("+")))) for share, sizes in parts]
    except ValueError as error:
        raise _unread("--schedule", text, "0.6:96,0.4:128") from error


def read_resolutions(text: str) -> tuple[int, ...]:
    """Sides in pixels, each one that networks can take."""
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise _unread("--resolutions", text, "96,128") from error
    for side in sides:
        if side < RESOLUTION_STEP or side % RESOLUTION_STEP:
            raise typer.BadParameter(
                f"{side} is no multiple of {RESOLUTION_STEP}", param_hint="--resolutions"
            )
    return sides


def read_mixture(text: str) -> list[tuple[str, float]]:
    """Names of sets with their shares of a batch."""
    try:
        parts = [part.split(":") for part in text.split(",")]
        return [(name, float(share)) for name, share in parts]
    except ValueError as error:
        raise _unread("--mixture", text, "D1:1,D2:1") from error


def _unread(flag: str, text: str, example: str) -> typer.BadParameter:
    return typer.BadParameter(f"{text!r} does not look like {example}", param_hint=flag)
