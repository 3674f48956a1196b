"""`mnv4serve add`: somebody else's classifier into a zoo of the user's own."""

import re
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from mnv4serve.backends import open_backend
from mnv4serve.build.foreign.join import Joined, Newcomer, take_back
from mnv4serve.build.foreign.labels import read_labels
from mnv4serve.build.foreign.values import Colours, Wishes
from mnv4serve.catalog import Catalog, Preprocessing, Triple, Variant, load_catalog
from mnv4serve.cli.models import build_targets
from mnv4serve.cli.options import (
    AsJson,
    ConfigFile,
    Models,
    StateDir,
    configure,
    print_json,
    stdout,
    tell,
)
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.record import record_score
from mnv4serve.cli.tables import arms_table
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import ArmView
from mnv4serve.errors import ArtifactMissing, CatalogError
from mnv4serve.evaluation import evaluate, labelled_files, reader
from mnv4serve.host import Host, profiled, resident_views, survey, walked
from mnv4serve.profiler import Candidate

RANGES = {"0..1": (0.0, 1.0), "0..255": (0.0, 255.0), "-1..1": (-1.0, 1.0)}
COLOURS: dict[str, Colours] = {"rgb": "RGB", "bgr": "BGR", "grey": "grey"}

GUESS = "guessed"
Numbers = Annotated[str | None, typer.Option(metavar="R,G,B", show_default="guessed")]


def register(app: typer.Typer) -> None:
    app.command()(add)


def add(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=".onnx or .tflite file.")],
    *,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with one label a line, or JSON.", show_default="those of --zoo, if it exists"
        ),
    ] = None,
    zoo: Annotated[
        str | None,
        typer.Option(help="Zoo to join or to begin.", show_default="named like the file"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the variant.", show_default="the file's")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="One folder of pictures a class, to check the guesses and measure accuracy."
        ),
    ] = None,
    layout: Annotated[
        Literal["NCHW", "NHWC"] | None,
        typer.Option(help="Of the input: channels before or after the pixels.", show_default=GUESS),
    ] = None,
    colours: Annotated[
        Literal["rgb", "bgr", "grey"] | None,
        typer.Option(help="Order of the channels.", show_default=GUESS),
    ] = None,
    value_range: Annotated[
        Literal["0..1", "0..255", "-1..1"] | None,
        typer.Option("--range", help="Of the pixels, before --mean and --std.", show_default=GUESS),
    ] = None,
    mean: Numbers = None,
    std: Numbers = None,
    label_offset: Annotated[
        int | None,
        typer.Option(min=0, help="Outputs before the first label's.", show_default=GUESS),
    ] = None,
    output: Annotated[
        Literal["logits", "probabilities"] | None,
        typer.Option(help="What the numbers it gives are.", show_default=GUESS),
    ] = None,
    output_name: Annotated[
        str | None, typer.Option(help="Name of the output, where several fit the labels.")
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=8, max=2048, help="Side of the input in pixels, where the file takes any."
        ),
    ] = None,
    resize: Annotated[
        Literal["squash", "shortest"] | None,
        typer.Option(
            help="The whole picture, or its centre in the right proportions.", show_default=GUESS
        ),
    ] = None,
    crop: Annotated[
        float | None, typer.Option(min=0.1, max=1.0, help="With shortest: the share that is kept.")
    ] = None,
    interpolation: Annotated[
        Literal["bilinear", "bicubic"] | None, typer.Option(show_default="bilinear")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Add anybody's .onnx or .tflite classifier to a zoo of your own, ready to serve.

    The file is looked at and tried in a process of its own. What it does not say about pictures
    is guessed, with the reason; --pictures tries the guess and its rivals, and every guess has a
    flag. Without --pictures the accuracy is unknown, so that the network is used only when a
    request names it.
    """
    _require_runtime(model)
    scale = _scaling(value_range, _triple("--mean", mean), _triple("--std", std))
    wishes = Wishes(
        layout=layout,
        colours=COLOURS[colours] if colours else None,
        mean=scale[0] if scale else None,
        std=scale[1] if scale else None,
        label_offset=label_offset,
        gives=output,
        output=output_name,
        resolution=resolution,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
    )
    named = zoo or _zoo_name(model)
    settings = configure(config=config, zoo=named, models=models, state_dir=state_dir)
    with progress_bar("adding") as advance:
        newcomer = Newcomer(
            path=model,
            zoos=settings.zoos,
            zoo=named,
            shipped=load_catalog(settings.models),
            labels=read_labels(labels) if labels else None,
            wishes=wishes,
            report=tell,
            progress=advance,
        )
        command = f"mnv4serve add {model.name} --zoo {named}"
        joined = newcomer.join(name=name, folder=pictures, command=command)
    candidates = _built(joined, settings)
    if pictures is not None:
        _measure(candidates, settings, pictures, joined.variant.name)
    else:
        tell("accuracy unknown: used only when named; `mnv4serve eval FOLDER` measures it")
    _finish(settings, joined.variant.name, as_json=as_json)


def _built(joined: Joined, settings: ServiceConfig) -> list[Candidate]:
    """Its arms on this machine; the zoo is left as it was where there is none."""
    kept = False
    try:
        site = survey(settings)
        targets = [target for target in site.targets if target.variant == joined.variant.name]
        built = build_targets(site, targets)
        found = _arms(site, settings, joined.variant.name) if built.artifacts else []
        if not found:
            raise CatalogError(
                f"{joined.variant.name} can be served by no backend of this machine: the lines "
                "above say why, `mnv4serve doctor` what is missing"
            )
        kept = True
        return found
    finally:
        if not kept:
            take_back(joined)


def _arms(site: Host, settings: ServiceConfig, variant: str) -> list[Candidate]:
    return [
        found
        for pool in settings.pools
        for found in site.loadable(pool)
        if found.arm.variant == variant
    ]


def _measure(
    candidates: Sequence[Candidate], settings: ServiceConfig, folder: Path, variant: str
) -> None:
    """Accuracy of each artifact as served, into the catalog where it can be compared."""
    site = survey(settings)
    files = labelled_files(folder, site.zoo.labels)
    preprocessing = site.zoo.preprocessing_of(variant)
    for found in candidates:
        with (
            closing(
                open_backend(found.artifact, device=found.arm.device, slots=1, threads=1)
            ) as backend,
            progress_bar(f"measuring {found.arm.id}") as advance,
        ):
            score = evaluate(
                backend,
                files,
                read=reader(found.arm.resolution, preprocessing),
                progress=lambda done, total: advance("", done, total),
            )
        tell(f"{found.arm.id}: {score.accuracy:.4f} of {score.n} pictures")
        record_score(site, settings, found, score, split=folder.resolve().name)


def _finish(settings: ServiceConfig, variant: str, *, as_json: bool) -> None:
    """Measure how fast it is here, and show what was written."""
    site = survey(settings)
    views: list[ArmView] = []
    for pool in settings.pools:
        candidates = site.loadable(pool)
        with progress_bar(f"measuring {pool.label}") as advance:
            found = profiled(site, pool, candidates, quick=True, progress=advance)
        views += resident_views(walked(site, candidates, found), settings, found)
    if as_json:
        print_json(_document(site.catalog, site.zoo_name, site.zoo.variant(variant)))
    else:
        stdout.print(arms_table([view for view in views if view.arm.variant == variant]))
        stdout.print(Text(_sentence(site.zoo.preprocessing_of(variant))), soft_wrap=True)
    tell(f"`mnv4serve serve --zoo {site.zoo_name}` serves it")


def _document(catalog: Catalog, zoo: str, variant: Variant) -> dict[str, object]:
    entry = variant.model_dump(mode="json", exclude_none=True)
    preprocessing = catalog.zoos[zoo].preprocessing_of(variant.name)
    return {**entry, "zoo": zoo, "preprocessing": preprocessing.model_dump(mode="json")}


def _sentence(preprocessing: Preprocessing) -> str:
    mean, std = (
        ", ".join(f"{value:.4g}" for value in values)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return f"pictures: {preprocessing.resize}, crop {preprocessing.crop:g}, mean {mean}, std {std}"


def _require_runtime(model: Path) -> None:
    needed = {".onnx": "onnx", ".tflite": "ai_edge_litert"}.get(model.suffix)
    if needed is not None and find_spec(needed) is None:
        extra = "litert" if needed == "ai_edge_litert" else "build"
        raise ArtifactMissing(
            f"adding {model.suffix} files needs {needed}: install mnv4serve[{extra}]"
        )


def _zoo_name(model: Path) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", model.stem.lower()).strip("-_")[:40] or "own"


def _triple(flag: str, text: str | None) -> Triple | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or (flag == "--std" and min(values) <= 0):  # noqa: PLR2004
        raise typer.BadParameter("give one number, or three with commas", param_hint=flag)
    return values[0], values[1], values[2]


def _scaling(
    value_range: str | None, mean: Triple | None, std: Triple | None
) -> tuple[Triple, Triple] | None:
    """Mean and deviation of pixels in [0, 1]; numbers above one are of pixels up to 255."""
    if value_range is None and mean is None and std is None:
        return None
    wide = max((*(mean or ()), *(std or ())), default=0.0) > 1
    low, high = RANGES[value_range or ("0..255" if wide else "0..1")]
    span = high - low
    means = [(value - low) / span for value in mean or (0.0, 0.0, 0.0)]
    stds = [value / span for value in std or (1.0, 1.0, 1.0)]
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])
