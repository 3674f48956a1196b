"""A progress bar with the time left, or a line an epoch where a log is kept."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from mnv4serve.train.loop import Report


class ProgressBar:
    """A context manager to pass to `train` as its progress callable."""

    def __init__(self, console: Console | None = None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[detail]}"), console=console)
        self.last: Report | None = None
        self.task = self.bar.add_task("starting", total=1.0, detail="")

    def __enter__(self) -> Self:
        if self.bar.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar.console.is_terminal:
            self.bar.stop()
        elif self.last is not None:
            self._print(self.last)

    def __call__(self, report: Report) -> None:
        if self.last is not None and self.last.stage != report.stage:
            self._print(self.last)
        self.last = report
        self.bar.update(
            self.task, description=report.stage, completed=report.share, detail=detail(report)
        )

    def _print(self, report: Report) -> None:
        """One line at the end of each stage; a bar tells the same as it goes."""
        if not self.bar.console.is_terminal:
            self.bar.console.print(f"{report.stage}: {detail(report)}", soft_wrap=True)


def detail(report: Report) -> str:
    """Speed, loss, last dev accuracy and time left in a few words."""
    parts = [f"{report.pictures_per_s:.0f} pictures/s"]
    if report.loss is not None:
        parts.append(f"loss {report.loss:.3f}")
    if report.dev_accuracy is not None:
        parts.append(f"dev {report.dev_accuracy:.1%}")
    return ", ".join([*parts, f"{_span(report.eta_s)} left"])


def _span(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
