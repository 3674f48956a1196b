"""The command line: `mnv4serve COMMAND --help` tells what each command does.

Exit codes: 0 done, 1 failed, 2 wrong usage, as with a value that can never work. With `--json`
stdout holds one JSON document and nothing else.
"""

import sys
from typing import Annotated

import typer
from rich.console import Console

from mnv4serve import __version__
from mnv4serve.cli import (
    add,
    bench,
    certify,
    classify,
    distill,
    doctor,
    inspect,
    models,
    pull,
    serve,
    simulate,
    top,
    train,
)
from mnv4serve.cli.logs import set_up_logs
from mnv4serve.cli.options import tell
from mnv4serve.errors import BadConfig, MnvError

FAILED, WRONG_USAGE = 1, 2

app = typer.Typer(
    name="mnv4serve",
    help="""Classify pictures within a latency budget: the most accurate MobileNetV4 that makes it.

    Start with `mnv4serve serve`; it prints a command that sends a picture. `mnv4serve classify
    photo.jpg` answers without a server, `mnv4serve doctor` tells what this machine can run.
    """,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for module in (
    serve,
    top,
    bench,
    simulate,
    classify,
    inspect,
    doctor,
    models,
    train,
    distill,
    certify,
    pull,
    add,
):
    module.register(app)


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it with the flag's value
    if wanted:
        Console().print(f"mnv4serve {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def common(
    *,
    debug: Annotated[bool, typer.Option(help="Show tracebacks and debug logs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set up what all commands share."""
    del version
    set_up_logs(debug=debug)
    if debug:
        app.pretty_exceptions_enable = True


def main() -> None:
    """Run one command; errors of ours and refusals of the system become one sentence on stderr."""
    try:
        app()
    except (MnvError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        tell(_sentence(error), title="error: ", style="bold red")
        sys.exit(WRONG_USAGE if isinstance(error, BadConfig) else FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


def _sentence(error: MnvError | OSError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
