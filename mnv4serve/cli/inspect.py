"""`mnv4serve profile`, `frontier` and `eval`: what this machine can do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mnv4serve.backends import open_backend
from mnv4serve.cli.options import (
    AsJson,
    Backend,
    ConfigFile,
    Models,
    PrecisionName,
    StateDir,
    VariantName,
    ZooName,
    configure,
    print_json,
    stdout,
    tell,
)
from mnv4serve.cli.plot import check_plot, plot_frontier
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.record import record_score
from mnv4serve.cli.tables import arms_table
from mnv4serve.domain import ArmView
from mnv4serve.errors import CatalogError
from mnv4serve.evaluation import Score, evaluate, labelled_files, reader
from mnv4serve.host import Host, profiled, resident_views, survey, walked
from mnv4serve.profiler import Candidate, cpu_grant


def register(app: typer.Typer) -> None:
    for command in (profile, frontier):
        app.command()(command)
    app.command("eval")(evaluate_folder)


def profile(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute, without p99.")] = False,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Measure every arm on this machine, and how many to run side by side.

    An arm is a network as one runtime, number format and device execute it. The service measures
    by itself when it first starts; measure again when the machine has changed.
    """
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    site = survey(settings)
    views: list[ArmView] = []
    for pool in settings.pools:
        candidates = site.loadable(pool)
        with progress_bar(f"measuring {pool.label}") as advance:
            found = profiled(site, pool, candidates, quick=quick, again=True, progress=advance)
        tell(f"{pool.label}: {found.slots} slots of {found.threads} threads are the fastest here")
        views += resident_views(walked(site, candidates, found), settings, found)
    stdout.print(arms_table(views))


def frontier(
    *,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it as .svg, .png or .pdf; needs mnv4serve[plot]."),
    ] = None,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Show which arms no other beats on both latency and accuracy.

    An arm is a network as one runtime, number format and device execute it.
    """
    if plot is not None:
        check_plot(plot)
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    site = survey(settings)
    views: list[ArmView] = []
    fingerprints = []
    for pool in settings.pools:
        candidates = site.loadable(pool)
        with progress_bar(f"measuring {pool.label}") as advance:
            found = profiled(site, pool, candidates, quick=True, progress=advance)
        fingerprints.append(found.fingerprint)
        views += resident_views(walked(site, candidates, found), settings, found)
    if plot is not None:
        plot_frontier(views, plot, title=f"{site.zoo_name} on this machine")
        tell(f"drew {plot}")
    if as_json:
        print_json({"host": fingerprints[0], "arms": [_arm_document(view) for view in views]})
    else:
        stdout.print(arms_table(views))


def evaluate_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="One folder of pictures a class, named by its id or label."
        ),
    ],
    *,
    variant: VariantName = None,
    backend: Backend = None,
    precision: PrecisionName = None,
    every: Annotated[bool, typer.Option("--all", help="Each arm that fits.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Measure accuracy on pictures of yours, decoded and inferred as when served.

    Without --variant, --backend and --precision: the most accurate arm of this machine. In a zoo
    that was pulled the measured accuracy takes the published one's place.
    """
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    site = survey(settings)
    if variant is not None:
        site.zoo.variant(variant)
    suitable = [
        found
        for pool in settings.pools
        for found in site.loadable(pool)
        if variant in (None, found.arm.variant)
        and backend in (None, found.arm.backend)
        and precision in (None, found.arm.precision)
    ]
    best = _best(suitable)
    files = labelled_files(folder, site.zoo.labels)
    documents = []
    for found in suitable if every else [best]:
        score = _measured(site, found, files)
        record_score(site, settings, found, score, split=folder.resolve().name)
        documents.append(_score_document(found, score))
        _tell_score(found, score, as_json=as_json)
    if as_json:
        print_json(documents if every else documents[0])


def _measured(site: Host, loadable: Candidate, files: Sequence[tuple[Path, int]]) -> Score:
    """What an arm answers to pictures, on as many slots as there are cores."""
    slots = cpu_grant(None)
    preprocessing = site.zoo.preprocessing_of(loadable.arm.variant)
    opened = open_backend(loadable.artifact, device=loadable.device, slots=slots, threads=1)
    try:
        with progress_bar(f"evaluating {loadable.arm.id}") as advance:
            return evaluate(
                opened,
                files,
                read=reader(loadable.arm.resolution, preprocessing),
                slots=slots,
                progress=lambda done, total: advance("", done, total),
            )
    finally:
        opened.close()


def _best(candidates: Sequence[Candidate]) -> Candidate:
    if not candidates:
        raise CatalogError(
            "no arm of this machine has that variant, backend and precision: `mnv4serve frontier` "
            "lists those it has"
        )
    return max(candidates, key=lambda found: found.arm.accuracy or 0.0)


def _tell_score(loadable: Candidate, score: Score, *, as_json: bool) -> None:
    low, high = score.interval
    for name in score.unreadable:
        tell(f"skipped {name}: not a readable picture")
    if not as_json:
        text = (
            f"{loadable.arm.id}: {score.accuracy:.4f} of {score.n}, 95 % in [{low:.4f}, {high:.4f}]"
        )
        stdout.print(Text(text), soft_wrap=True)


def _score_document(loadable: Candidate, score: Score) -> dict[str, object]:
    return {
        "variant": loadable.arm.variant,
        "backend": loadable.arm.backend,
        "precision": loadable.arm.precision,
        "accuracy": score.accuracy,
        "n": score.n,
        "interval": list(score.interval),
    }


def _arm_document(view: ArmView) -> dict[str, object]:
    published = {"accuracy_taken_over": True} if view.arm.accuracy_taken_over else {}
    tied = {"tied_to": view.arm.tied_to} if view.arm.tied_to else {}
    return {
        "arm": view.arm.id,
        "variant": view.arm.variant,
        "backend": view.arm.backend,
        "precision": view.arm.precision,
        "device": view.arm.device,
        "accuracy": view.arm.accuracy,
        **published,
        "p50_ms": view.p50_ms,
        "p99_ms": view.p99_ms,
        "resident": view.resident,
        "on_frontier": view.on_frontier,
        **tied,
    }
