"""`mnv4serve build`: artifacts from weights, ranges from pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from mnv4serve.artifacts import Target, unfit
from mnv4serve.backends import litert_file
from mnv4serve.build import Built, build_all, require_toolchain
from mnv4serve.build.litert_gates import streamed_bytes
from mnv4serve.build.own import is_own
from mnv4serve.catalog import Zoo, open_catalog
from mnv4serve.cli.options import (
    Backend,
    ConfigFile,
    Models,
    PrecisionName,
    StateDir,
    ZooName,
    configure,
    tell,
)
from mnv4serve.cli.progress import progress_bar
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError, SetupError
from mnv4serve.host import Host, survey

LISTED = 10
"""Unreadable files that are named; the others are counted."""


def register(app: typer.Typer) -> None:
    app.command()(build)


def build(
    variants: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VARIANT", help="Networks to build, as conv_small@160.", show_default="all"
        ),
    ] = None,
    *,
    backend: Backend = None,
    precision: PrecisionName = None,
    force: Annotated[bool, typer.Option("--force", help="Build again what is there.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures like yours, to compute ranges for int8 from."),
    ] = None,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Build what is served from the weights, and prove it equal to the reference.

    Pulled weights come without int8; --pictures computes its ranges from pictures of your own.
    """
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    if pictures is not None:
        compute_ranges(settings, pictures, variants or [])
    site = survey(settings)
    targets = _wanted(site.zoo, site.targets, variants or [], backend, precision)
    built = build_targets(site, targets, force=force)
    if built.refused:
        raise SetupError(
            f"{len(built.refused)} artifacts differ from their reference and will not be served: "
            "the lines above name them"
        )


def build_targets(site: Host, targets: Sequence[Target], *, force: bool = False) -> Built:
    """Build with a progress bar and say which artifacts were refused."""
    with progress_bar("building artifacts") as advance:
        built = build_all(
            site.catalog,
            site.zoo,
            targets,
            state_dir=site.state_dir,
            force=force,
            progress=lambda target, done, total: advance(str(target), done, total),
        )
    for refusal in built.refused:
        tell(str(refusal), title="refused: ", style="bold red")
    for note in _streaming(built):
        tell(note)
    tell(f"{len(built.artifacts)} artifacts are ready in {site.state_dir}")
    return built


def _streaming(built: Built) -> Iterator[str]:
    """Which networks are too large for an Edge TPU to keep, by how much."""
    for artifact in built.artifacts:
        if artifact.backend is BackendName.EDGETPU:
            streamed = streamed_bytes(litert_file.read(artifact.path.read_bytes()))
            if streamed:
                yield f"{artifact.variant} on an Edge TPU streams {streamed} bytes per inference"


def compute_ranges(settings: ServiceConfig, folder: Path, variants: list[str]) -> None:
    """Give variants of a zoo of the user's own ranges for int8."""
    catalog = open_catalog(settings.models, settings.zoos, settings.zoo)
    name, zoo = catalog.zoo(settings.zoo)
    if not is_own(catalog, settings.zoos):
        raise CatalogError(
            f"{name} ships its ranges; --pictures is for zoos pulled or trained here"
        )
    require_toolchain("computing ranges")
    from mnv4serve.build.pictures import add_ranges, picture_files  # noqa: PLC0415  # imports torch

    files = picture_files(folder)
    chosen = [zoo.variant(variant) for variant in variants] or list(zoo.variants)
    unreadable: set[Path] = set()
    with progress_bar("computing ranges") as advance:
        for done, variant in enumerate(chosen, start=1):
            ranged = add_ranges(catalog, variant, files, folder=folder)
            catalog = ranged.catalog
            unreadable.update(ranged.unreadable)
            advance(variant.name, done, len(chosen))
            tell(f"int8 of {variant.name}: ranges from {ranged.pictures} pictures of {folder}")
    list_unreadable(sorted(unreadable))


def list_unreadable(paths: Sequence[Path]) -> None:
    """Say how many files were left out, and which."""
    if paths:
        names = ", ".join(str(path) for path in paths[:LISTED])
        more = f" and {len(paths) - LISTED} more" if len(paths) > LISTED else ""
        tell(f"left out {len(paths)} unreadable files: {names}{more}")


def _wanted(
    zoo: Zoo,
    targets: tuple[Target, ...],
    variants: list[str],
    backend: BackendName | None,
    precision: Precision | None,
) -> list[Target]:
    for name in variants:
        zoo.variant(name)
    wanted = [
        target
        for target in targets
        if (not variants or target.variant in variants)
        and backend in (None, target.backend)
        and precision in (None, target.precision)
    ]
    if not wanted:
        named = (Target(name, backend, Precision.INT8) for name in variants if backend)
        for reason in filter(None, (unfit(zoo, target) for target in named)):
            raise CatalogError(reason)
        offered = sorted({f"{target.backend}/{target.precision}" for target in targets})
        raise CatalogError(f"nothing to build: this machine offers {', '.join(offered)}")
    return wanted
