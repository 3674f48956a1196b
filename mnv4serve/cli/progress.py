"""Progress bars on stderr for everything that takes more than a moment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mnv4serve.cli.options import stderr, tell

LINES_AT_MOST = 100

Advance = Callable[[str, int, int], None]
"""What was just done, how many are done, how many there are."""


@contextmanager
def progress_bar(title: str) -> Iterator[Advance]:
    """A bar that appears with the first step and names the last one; plain lines in a log."""
    if not stderr.is_terminal:
        yield partial(_line, title)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[step]}"),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(title, total=None, step="", visible=False)

        def advance(step: str, done: int, total: int) -> None:
            progress.update(task, total=total, completed=done, step=step, visible=True)

        yield advance


def _line(title: str, step: str, done: int, total: int) -> None:
    if total > LINES_AT_MOST and done * LINES_AT_MOST % total >= LINES_AT_MOST:
        return
    tell(f"{title}: {step} ({done} of {total})")
