"""What `train` does with `--from` and `--zoo`; apart because it needs torch."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from mnv4serve.build import own, require_toolchain
from mnv4serve.build.enrol import Enrolment
from mnv4serve.build.release import Sources
from mnv4serve.build.starting import starting_weights
from mnv4serve.catalog import Label, Zoo, load_catalog
from mnv4serve.cli.options import stdout, tell
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.training import run_training
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import TrainError
from mnv4serve.evaluation import labelled_files
from mnv4serve.train.checkpoint import write_whole
from mnv4serve.train.config import Start, TrainConfig
from mnv4serve.train.data import PREPROCESSING, Listing, list_pictures, split_folders

FINE_TUNING = {"epochs": 20, "learning_rate": 5e-4}
STEP = 32
BELOW = 2
"""Smaller resolutions that fine-tuning serves beside the variant's own."""
SMALLEST = 96
EXPORTED = (96, 128, 160, 192, 224)
BATCHES = 10
"""An epoch has at least this many, where there are so few pictures."""
RUNS = ".runs"

Recipe = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    recipe: Recipe
    """Only what was said."""
    zoo: str | None
    start: str | None
    export: Path | None
    resolutions: Sequence[int] | None
    plot: Path | None


def run(wish: Wish, service: ServiceConfig) -> None:
    """Train as was asked for, and add the result to a zoo where one is named."""
    if wish.zoo is None:
        recipe = _recipe(wish, service, out=wish.recipe["out"])
        resolutions = wish.resolutions or (_trained_at(recipe) if wish.start else EXPORTED)
        run_training(recipe, export=wish.export, resolutions=resolutions, plot=wish.plot)
        return
    require_toolchain(f"adding to {wish.zoo}")
    train_folder, val_folder = split_folders(wish.recipe["data"])
    listing = list_pictures(train_folder)
    shipped = load_catalog(service.models)
    own.check_name(service.zoos, wish.zoo, listing.classes, shipped=shipped)
    if val_folder is not None:
        labelled_files(val_folder, [Label(id=name, name=name) for name in listing.classes])
    out = wish.recipe.get("out") or service.zoos / RUNS / wish.zoo
    recipe = {
        "batch_size": _batch_size(listing),
        "cache": service.state_dir / "pictures",
        **_recipe(wish, service, out=out),
    }
    exported = out / "export"
    shutil.rmtree(
        exported, ignore_errors=True
    )  # statistics of an earlier run belong to its weights
    resolutions = wish.resolutions or _trained_at(recipe)
    run_training(recipe, export=exported, resolutions=resolutions, plot=wish.plot)
    split = f"{wish.zoo} {'val' if val_folder else 'dev'}"
    sources = Sources(train_folder, val_folder, split)
    _enrol(wish.zoo, listing.classes, sources, exported, recipe["architecture"], service)


def _enrol(
    name: str,
    classes: tuple[str, ...],
    sources: Sources,
    exported: Path,
    architecture: str,
    service: ServiceConfig,
) -> None:
    enrolment = Enrolment(service.zoos, name, classes, PREPROCESSING, sources)
    with progress_bar("measuring as served") as advance:
        catalog = enrolment.enrol(
            exported, architecture, state_dir=service.state_dir, report=tell, progress=advance
        )
    _, zoo = catalog.zoo(name)
    stdout.print(_table(name, zoo))
    tell(f"`mnv4serve serve --zoo {name}` serves it")


def _recipe(wish: Wish, service: ServiceConfig, *, out: Path) -> dict[str, Any]:
    """What was said over what suits the start."""
    defaults: dict[str, Any] = {"architecture": "conv_small"}
    if wish.start is not None:
        defaults = _fine_tuning(wish.start, service, folder=wish.recipe["data"], out=out)
    recipe = {**defaults, **wish.recipe, "out": out}
    largest = max(_trained_at(recipe), default=0)
    return {"picture_size": max(largest, _default("picture_size")), **recipe}


def _fine_tuning(text: str, service: ServiceConfig, *, folder: Path, out: Path) -> dict[str, Any]:
    """Few epochs at a low rate, from a variant's weights, at its resolution and some below."""
    catalog, zoo, variant = own.find_variant(service.models, service.zoos, text)
    architecture = catalog.zoos[zoo].checkpoint(variant.checkpoint).architecture
    path = out / f"{zoo}-{variant.name}.start.safetensors"
    classes = list_pictures(split_folders(folder)[0]).classes
    content = starting_weights(catalog, zoo, variant, wanted=PREPROCESSING, classes=classes)
    write_whole(path, content)
    sides = range(variant.resolution - BELOW * STEP, variant.resolution + 1, STEP)
    served = [side for side in sides if side >= min(SMALLEST, variant.resolution)]
    return {
        **FINE_TUNING,
        "architecture": architecture,
        "schedule": [(1.0, tuple(served))],
        "start": Start.of(path, name=f"{zoo}/{variant.name}", architecture=architecture),
    }


def _trained_at(recipe: Recipe) -> tuple[int, ...]:
    schedule = recipe.get("schedule", _default("schedule"))
    return tuple(sorted({side for _, sides in schedule for side in sides}))


def _default(key: str) -> Any:  # noqa: ANN401  # of any field
    return TrainConfig.model_fields[key].default


def _batch_size(listing: Listing) -> int:
    usual: int = _default("batch_size")
    few = len(listing.files) // BATCHES
    if few < 1:
        raise TrainError(
            f"{listing.folder} holds {len(listing.files)} pictures; training needs at least "
            f"{BATCHES}, and more to be of use"
        )
    return max(2, min(usual, few))


def _table(name: str, zoo: Zoo) -> Table:
    table = Table("variant", "backend", "precision", "accuracy", "pictures", title=name)
    for variant in zoo.variants:
        for entry in variant.certified:
            table.add_row(
                variant.name,
                entry.backend,
                entry.precision,
                f"{entry.accuracy:.4f}",
                f"{entry.n} of {entry.split}",
            )
    return table
