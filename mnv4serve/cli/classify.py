"""`mnv4serve classify`: one-shot answers without a server."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mnv4serve.cli.options import (
    AsJson,
    Backend,
    ConfigFile,
    Models,
    StateDir,
    VariantName,
    ZooName,
    configure,
    print_json,
    stdout,
)
from mnv4serve.cli.progress import progress_bar
from mnv4serve.domain import Reply, Terms
from mnv4serve.errors import BadImage, BadParameter, TooLarge, UnsupportedMedia
from mnv4serve.host import survey
from mnv4serve.images import read_header
from mnv4serve.serving.documents import reply_document
from mnv4serve.serving.oneshot import answer_all
from mnv4serve.serving.terms import checked_budget


def register(app: typer.Typer) -> None:
    app.command()(classify)


def _checked_budget(budget_ms: float | None) -> float | None:
    try:
        return None if budget_ms is None else checked_budget(budget_ms)
    except BadParameter as error:
        raise typer.BadParameter(str(error)) from error


def classify(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Pictures: JPEG, PNG, WebP, ...")
    ],
    *,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            help="Milliseconds that one picture may take.",
            show_default="100",
            callback=_checked_budget,
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show, at most.")] = 5,
    as_json: AsJson = False,
    variant: VariantName = None,
    backend: Backend = None,
    config: ConfigFile = None,
    zoo: ZooName = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label pictures with the most accurate network that fits the budget, without a server.

    With --json one picture gives the document of POST /classify, several give a list of them.
    """
    settings = configure(config=config, zoo=zoo, models=models, state_dir=state_dir)
    site = survey(settings)
    terms = Terms(
        budget_ms=settings.default_budget_ms if budget_ms is None else budget_ms,
        top_k=min(top_k, len(site.zoo.labels)),
        variant=variant,
        backend=backend,
    )
    contents = [_read(image, max_pixels=settings.max_pixels) for image in images]
    with progress_bar("getting ready") as advance:
        replies = answer_all(site, settings, contents, terms=terms, progress=advance)
    documents = [reply_document(reply) for reply in replies]
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    for image, reply in zip(images, replies, strict=True):
        stdout.print(Text.assemble((f"{image} ", "bold"), (_line(reply), "dim")), soft_wrap=True)
        for prediction in reply.predictions:
            stdout.print(Text(f"  {prediction.probability:6.1%}  {prediction.label}"))


def _read(image: Path, *, max_pixels: int) -> bytes:
    """A picture that looks like one, so that a wrong file is named before anything is loaded."""
    try:
        content = image.read_bytes()
        read_header(content, max_pixels=max_pixels)
    except OSError as error:
        raise BadImage(f"{image} cannot be read: {error.strerror}") from error
    except (BadImage, TooLarge, UnsupportedMedia) as error:
        raise type(error)(f"{image}: {error}") from error
    return content


def _line(reply: Reply) -> str:
    timing = f"{reply.stages.total_ms:.1f} of {reply.terms.budget_ms:g} ms"
    verdict = "on time" if reply.on_time else "late"
    return f"{reply.plan.arm.id}, {timing}, {verdict}, {reply.plan.reason}"
