"""Options that several commands share, and the two consoles."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mnv4serve.config import ServiceConfig, load_config
from mnv4serve.domain import BackendName, Precision

LOG_WIDTH = 120
"""Of tables that go to a file or a pipe."""

if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="replace")  # a terminal without the table's signs
stdout = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
stderr = Console(stderr=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="MNV4SERVE_CONFIG", help="YAML file with configuration keys."),
]
Models = Annotated[
    Path | None,
    typer.Option(
        help="Folder with catalog.toml, to read from.",
        show_default="MNV4SERVE_MODELS, ./models, the package's own",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for artifacts and profiles, to write to.",
        show_default="MNV4SERVE_STATE_DIR, the user's cache folder",
    ),
]
ZooName = Annotated[
    str | None,
    typer.Option(
        "--zoo",
        help="Zoo to use: its variants answer with the same labels.",
        show_default="the catalog's",
    ),
]
VariantName = Annotated[
    str | None, typer.Option("--variant", help="Only this variant, for example conv_small@160.")
]
Backend = Annotated[BackendName | None, typer.Option("--backend", help="Only this runtime.")]
PrecisionName = Annotated[
    Precision | None, typer.Option("--precision", help="Only this number format.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def configure(*, config: Path | None, **flags: Any) -> ServiceConfig:  # noqa: ANN401  # any key
    """The configuration with a command's flags on top."""
    return load_config(file=config, flags=flags)


def tell(message: str, *, title: str = "", style: str = "") -> None:
    """One line on stderr, never wrapped; what it quotes is no markup."""
    stderr.print(Text.assemble((title, style), message), soft_wrap=True)


def print_json(document: object) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(document, indent=2))
