"""Does distillation pay for a small network? Runs all arms, writes ablation.json and a plot.

    python models/ablation.py FOLDER --out OUT --teacher conv_medium@160 --start conv_small

Resumable: call it again and it goes on where it was.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mnv4serve.catalog import Catalog, load_catalog
from mnv4serve.cli import FAILED, WRONG_USAGE
from mnv4serve.cli.options import stderr, stdout, tell
from mnv4serve.cli.progress import progress_bar
from mnv4serve.cli.training import read_config, teacher_of
from mnv4serve.errors import BadConfig, MnvError
from mnv4serve.train.ablation import ARMS, Ablation, Plan, ablate
from mnv4serve.train.config import Start
from mnv4serve.train.curves import draw_arms, require_matplotlib
from mnv4serve.train.display import ProgressBar
from mnv4serve.train.distill import check_classes, label_mixture
from mnv4serve.train.run import training_pictures
from mnv4serve.train.soft_labels import Teacher

MODELS = Path(__file__).parent


def main(  # noqa: PLR0913  # typer reads options off signatures
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or train/ and val/.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for runs, labels and result.")],
    teacher: Annotated[str, typer.Option(help="Variant that answers, or several with commas.")],
    start: Annotated[str, typer.Option(help="Checkpoint that `sliced` is cut from.")],
    architecture: Annotated[str, typer.Option()] = "conv_small_050",
    resolution: Annotated[int, typer.Option()] = 96,
    epochs: Annotated[int, typer.Option()] = 30,
    seeds: Annotated[int, typer.Option()] = 3,
    threads: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Let the teacher answer what the arms need, run them, write the result."""
    require_matplotlib()
    base = read_config(
        {
            "data": data,
            "out": out,
            "cache": out / "cache",
            "architecture": architecture,
            "epochs": epochs,
            "schedule": ((1.0, (resolution,)),),
            "threads": threads,
        }
    )
    catalog = load_catalog(MODELS)
    teaching = teacher_of(catalog, catalog.zoo()[1], teacher)
    begun = _start(catalog, start)
    plan = Plan(base, teaching.name, out / "labels", begun, tuple(range(seeds)))
    _label(plan, teaching, [label.id for label in catalog.zoo()[1].labels])
    with ProgressBar(stderr) as bar:
        result = ablate(plan, bar)
    draw_arms(result, out / "ablation.svg")
    stdout.print(_table(result))


def _start(catalog: Catalog, name: str) -> Start:
    _, zoo = catalog.zoo()
    known = [entry.name for entry in zoo.checkpoints]
    if name not in known:
        raise BadConfig(f"--start: unknown checkpoint {name!r}; there are {', '.join(known)}")
    checkpoint = zoo.checkpoint(name)
    path = catalog.root / checkpoint.weights.path
    return Start.of(path, name=name, architecture=checkpoint.architecture)


def _label(plan: Plan, teacher: Teacher, known: Sequence[str]) -> None:
    pictures = training_pictures(plan.base)
    check_classes(pictures, known)
    with progress_bar("asking the teacher") as advance:
        for arm in ARMS:
            if arm.taught:
                named = partial(advance, f"{teacher.name.name}, {arm.name}")
                label_mixture(plan.config(arm, 0), pictures, teacher, named)


def _table(result: Ablation) -> Table:
    table = Table("arm", "dev, mean", "spread", "seeds", title=result.architecture)
    for name, average, spread in result.summary():
        values = " ".join(f"{value:.4f}" for value in result.of(name))
        table.add_row(name, f"{average:.4f}", f"{spread:.4f}", values)
    return table


if __name__ == "__main__":
    try:
        typer.run(main)
    except MnvError as error:
        tell(str(error), title="error: ", style="bold red")
        sys.exit(WRONG_USAGE if isinstance(error, BadConfig) else FAILED)
