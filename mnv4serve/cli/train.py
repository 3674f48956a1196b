"""`mnv4serve train`: weights from pictures, and a zoo of one's own from them."""

from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.cli.options import ConfigFile, Models, StateDir, configure
from mnv4serve.cli.recipe import (
    ARCHITECTURE_HELP,
    ExportFolder,
    PlotFile,
    Resume,
    Threads,
    read_resolutions,
    read_schedule,
    require_torch,
)

FOLDER_HELP = "One folder of pictures a class, or one with train/ and val/."


def register(app: typer.Typer) -> None:
    app.command()(train)


def train(
    folder: Annotated[Path | None, typer.Argument(metavar="FOLDER", help=FOLDER_HELP)] = None,
    *,
    data: Annotated[
        Path | None, typer.Option(help="The same as FOLDER, which is then left out.")
    ] = None,
    zoo: Annotated[
        str | None, typer.Option(help="Add the result to this zoo of your own, ready to serve.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="VARIANT", help="Fine-tune a variant, or ZOO/VARIANT."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoint, record and cache; not needed with --zoo."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help=ARCHITECTURE_HELP, show_default="conv_small, or that of --from"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, show_default="60, or 20 with --from")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, show_default="64, fewer where there are few pictures")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(show_default="0.002, or 0.0005 with --from")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE:PX,...",
            help="Resolutions by share of the epochs; in 0.2:96+160 each batch draws one of two.",
            show_default="0.6:96,0.3:128,0.1:160, or with --from the variant's and two below",
        ),
    ] = None,
    mixup: Annotated[float, typer.Option(help="Share of the batches; for long runs.")] = 0.0,
    cutmix: Annotated[float, typer.Option(help="Share of the batches; for long runs.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Threads = None,
    resume: Resume = True,
    export: ExportFolder = None,
    resolutions: Annotated[
        str | None,
        typer.Option(
            metavar="PX,...",
            help="To export statistics for.",
            show_default="96,128,160,192,224, or with --from or --zoo those trained at",
        ),
    ] = None,
    plot: PlotFile = None,
    config: ConfigFile = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Train a network on a folder of class folders; an interrupted run goes on where it was.

    With --zoo the result is measured as served and `mnv4serve serve --zoo NAME` serves it.
    """
    if (folder is None) == (data is None):
        raise typer.BadParameter("name the folder of pictures once", param_hint="--data")
    if zoo is None and out is None:
        raise typer.BadParameter("name a folder, or a zoo with --zoo", param_hint="--out")
    if zoo is not None and export is not None:
        raise typer.BadParameter("weights go into the zoo", param_hint="--export")
    require_torch()
    service = configure(config=config, models=models, state_dir=state_dir)
    given = {
        "data": folder or data,
        "out": out,
        "architecture": architecture,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": read_schedule(schedule) if schedule else None,
        "augmentation": {"mixup": mixup, "cutmix": cutmix},
        "seed": seed,
        "threads": threads,
        "resume": resume,
    }
    from mnv4serve.cli.own_zoo import Wish, run  # noqa: PLC0415  # imports torch

    wish = Wish(
        recipe={key: value for key, value in given.items() if value is not None},
        zoo=zoo,
        start=start,
        export=export,
        resolutions=read_resolutions(resolutions) if resolutions else None,
        plot=plot,
    )
    run(wish, service)
