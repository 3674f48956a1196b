"""`mnv4serve pull`: published weights into a zoo of the user's own."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mnv4serve.build import require_toolchain
from mnv4serve.build.hub import Fetched, fetch, from_folder, hub_from
from mnv4serve.build.published import ZOO, Offer, Tag, chosen, offers
from mnv4serve.catalog import load_catalog
from mnv4serve.cli.models import build_targets
from mnv4serve.cli.options import ConfigFile, Models, StateDir, configure, stdout, tell
from mnv4serve.cli.progress import progress_bar
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import BadConfig, SetupError
from mnv4serve.host import survey

MB = 1_000_000


def register(app: typer.Typer) -> None:
    app.command()(pull)


def pull(
    zoo: Annotated[str, typer.Argument(metavar="ZOO", help=f"{ZOO}; there is no other yet.")],
    variants: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VARIANT",
            help="conv_small@224, or conv_small for all its resolutions.",
            show_default="the paper's five models",
        ),
    ] = None,
    *,
    show: Annotated[bool, typer.Option("--list", help="Show what is published.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Folder to take the weights from, instead of the hub.")
    ] = None,
    build: Annotated[bool, typer.Option(help="Build the artifacts as well.")] = True,
    config: ConfigFile = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Fetch the published ImageNet weights from the Hugging Face hub and build them.

    Accuracies are the published ones until `mnv4serve eval FOLDER --zoo imagenet1k` has measured
    them. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured; an interrupted pull goes
    on where it was.
    """
    if zoo != ZOO:
        raise BadConfig(f"there are published weights for {ZOO} only, not for {zoo!r}")
    if show:
        stdout.print(_table(offers()))
        return
    wanted = chosen(variants or [])
    settings = configure(config=config, zoo=ZOO, models=models, state_dir=state_dir)
    require_toolchain("checking pulled weights")
    try:
        _pull(wanted, settings, folder)
    except KeyboardInterrupt:
        tell("stopped: the same command goes on from here")
        raise
    if build:
        site = survey(settings)
        names = {offer.variant for offer in wanted}
        targets = [target for target in site.targets if target.variant in names]
        if not build_targets(site, targets).artifacts:
            raise SetupError("nothing that was pulled can be served: the lines above say why")
    tell(f"`mnv4serve serve --zoo {ZOO}` serves them; accuracies are published, not measured here")


def _pull(wanted: Sequence[Offer], settings: ServiceConfig, folder: Path | None) -> None:
    from mnv4serve.build.pull import Puller  # noqa: PLC0415  # imports torch

    hub = hub_from(os.environ)
    with progress_bar("fetching, MB") as advance:

        def bring(tag: Tag, revision: str | None) -> Fetched:
            if folder is not None:
                return from_folder(tag.repository, folder)
            return fetch(
                tag.repository,
                hub=hub,
                revision=revision,
                progress=lambda done, total: advance(tag.name, done // MB, total // MB),
            )

        shipped = load_catalog(settings.models)
        Puller(settings.zoos, shipped, bring, report=tell).pull(wanted)


def _table(known: Sequence[Offer]) -> Table:
    table = Table("variant", "checkpoint", "MB", "crop", "published", title=f"{ZOO} on the hub")
    for offer in known:
        table.add_row(
            offer.variant,
            offer.tag.tag,
            str(offer.tag.megabytes),
            f"{offer.crop:g}",
            f"{offer.accuracy:.4f}",
        )
    return table
