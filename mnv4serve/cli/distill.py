"""`mnv4serve distill`."""

from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.catalog import open_catalog
from mnv4serve.cli.options import Models, StateDir, ZooName, configure
from mnv4serve.cli.recipe import (
    ArchitectureName,
    ExportFolder,
    PlotFile,
    ResolutionsText,
    Resume,
    RunFolder,
    ScheduleText,
    Threads,
    read_mixture,
    read_resolutions,
    read_schedule,
    require_torch,
)


def register(app: typer.Typer) -> None:
    app.command()(distill)


def distill(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="One folder of pictures a class, or one with train/ and val/."
        ),
    ],
    *,
    teacher: Annotated[
        str,
        typer.Option(
            metavar="VARIANT,...",
            help="Variant that answers, as conv_medium@160; the mean of several.",
        ),
    ],
    out: RunFolder,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the teacher's answers, to share between runs.",
            show_default="labels/ in that of --out",
        ),
    ] = None,
    mixture: Annotated[
        str,
        typer.Option(
            metavar="SET:SHARE,...",
            help="D1: crops and RandAugment; D2: crops, each blended with another picture's.",
        ),
    ] = "D1:1,D2:1",
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="VARIANT", help="Cut the student from a wider network."),
    ] = None,
    architecture: ArchitectureName = "conv_small_050",
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    learning_rate: Annotated[float, typer.Option()] = 2e-3,
    schedule: ScheduleText = "0.6:96,0.3:128,0.1:160",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Threads = None,
    resume: Resume = True,
    export: ExportFolder = None,
    resolutions: ResolutionsText = "96,128,160,192,224",
    plot: PlotFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Train a small network to answer as a larger one does.

    The teacher answers as many views of each picture as the run will show; its answers are kept,
    so that later runs and interrupted ones ask only for what is missing.
    """
    settings = {
        "data": data,
        "out": out,
        "architecture": architecture,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": read_schedule(schedule),
        "seed": seed,
        "threads": threads,
        "resume": resume,
    }
    parts = read_mixture(mixture)
    sizes = read_resolutions(resolutions)
    service = configure(config=None, zoo=zoo, models=models, state_dir=state_dir)
    catalog = open_catalog(service.models, service.zoos, service.zoo)
    _, chosen = catalog.zoo(service.zoo)
    require_torch()
    from mnv4serve.cli.training import Teaching, run_distillation  # noqa: PLC0415  # imports torch

    run_distillation(
        settings,
        Teaching(catalog, chosen, teacher, parts, labels or out / "labels", start),
        export=export,
        resolutions=sizes,
        plot=plot,
    )
