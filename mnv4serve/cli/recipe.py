"""What `train` and `distill` share: options of a run, and how their texts are read."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.errors import TrainError

RunFolder = Annotated[Path, typer.Option(help="Folder for checkpoint, run record and cache.")]
ArchitectureName = Annotated[str, typer.Option(help="One of the seven networks.")]
ScheduleText = Annotated[
    str,
    typer.Option(
        metavar="SHARE:PX,...", help="Resolutions by share of the epochs; 0.2:96+160 draws one."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="All cores where not given.")]
Resume = Annotated[bool, typer.Option(help="Go on from the checkpoint in OUT.")]
ExportFolder = Annotated[
    Path | None, typer.Option(help="Folder for the weights once the run has ended.")
]
ResolutionsText = Annotated[
    str, typer.Option(help="Resolutions to export batch-norm statistics for.")
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
        raise TrainError(f"a schedule looks like 0.6:96,0.4:128, not {text!r}") from error


def read_resolutions(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise TrainError(f"resolutions look like 96,128, not {text!r}") from error


def read_mixture(text: str) -> list[tuple[str, float]]:
    """Names of sets with their shares of a batch."""
    try:
        parts = [part.split(":") for part in text.split(",")]
        return [(name, float(share)) for name, share in parts]
    except ValueError as error:
        raise TrainError(f"a mixture looks like D1:1,D2:1, not {text!r}") from error
