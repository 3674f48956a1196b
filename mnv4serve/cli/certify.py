"""`mnv4serve certify`: what a checkpoint achieves as served, measured once and written down."""

from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.catalog import load_catalog
from mnv4serve.cli.options import Models, StateDir, ZooName, configure, tell
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.recipe import read_resolutions
from mnv4serve.errors import CatalogError


def register(app: typer.Typer) -> None:
    app.command()(certify)


def certify(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Exported weights, for example conv_small.")
    ],
    *,
    data: Annotated[Path, typer.Option(help="Folder with train/ and val/, of class folders.")],
    resolutions: Annotated[
        str | None,
        typer.Option(
            metavar="PX,...",
            help="Resolutions to release.",
            show_default="those that dev finds worth having",
        ),
    ] = None,
    again: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Read val once more; the log keeps the reason."),
    ] = None,
    strangers: Annotated[
        Path | None, typer.Option(help="Folder of pictures that show none of the labels.")
    ] = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Measure how accurate exported weights are as served, and put it on record.

    Choices are made on dev, a tenth of train/; val/ is read once per artifact. Catalog, log of the
    readings and model cards go into the models folder, which has to hold the exported weights.
    """
    chosen = read_resolutions(resolutions) if resolutions else ()
    if again is not None and not again.strip():
        raise typer.BadParameter("say the reason, which the log keeps", param_hint="--again")
    settings = configure(config=None, models=models, state_dir=state_dir)
    catalog = load_catalog(settings.models)
    name, _ = catalog.zoo(zoo)
    _check_folders(data, strangers)
    from mnv4serve.build.cards import write_cards  # noqa: PLC0415  # imports torch
    from mnv4serve.build.release import Releaser, Sources, read_checkpoint  # noqa: PLC0415

    with progress_bar(f"certifying {checkpoint}") as advance:
        releaser = Releaser(
            name,
            Sources(data / "train", data / "val", split=f"{name} val"),
            settings.state_dir,
            report=tell,
            again=again,
            strangers=strangers,
            progress=advance,
        )
        entry = read_checkpoint(catalog, name, checkpoint, data=data.name)
        releaser.certify(catalog, entry, chosen)
    tell(f"wrote {write_cards(load_catalog(catalog.root))}")


def _check_folders(data: Path, strangers: Path | None) -> None:
    if strangers is not None and not strangers.is_dir():
        raise CatalogError(f"{strangers} is no folder: name one of pictures with --strangers")
    for folder in (data / "train", data / "val"):
        if not folder.is_dir():
            raise CatalogError(f"{folder} is no folder: --data needs train/ and val/ in it")
