"""What a run on a GPU has found out, as the page that is printed at its end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mnv4serve.artifacts import Target
from mnv4serve.backends.cuda_buckets import BUCKETS


@dataclass
class Findings:
    """Filled by the tests, one after the other."""

    device: str = ""
    deviations: dict[Target, tuple[float, float]] = field(default_factory=dict)
    """Measured and allowed."""
    p50_ms: dict[Target, Mapping[int, float]] = field(default_factory=dict)
    """By batch size."""
    opened_s: dict[Target, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def page(self) -> Group:
        """The tables and notes for a person to read."""
        return Group(Text(self.device), self._table(), *(Text(f"- {note}") for note in self.notes))

    def _table(self) -> Table:
        sizes = [f"{size}" for size in BUCKETS]
        table = Table(title="p50 in ms by batch size, copies included", caption=_CAPTION)
        for heading in ("artifact", *sizes, "pictures/s", "opened in s", "deviation"):
            table.add_column(heading, justify="left" if heading == "artifact" else "right")
        for target in self.deviations | self.p50_ms:
            table.add_row(str(target), *self._cells(target))
        return table

    def _cells(self, target: Target) -> list[str]:
        times = self.p50_ms.get(target, {})
        cells = [f"{times[size]:.3f}" if size in times else "" for size in BUCKETS]
        best = max((size * 1000 / ms for size, ms in times.items()), default=None)
        seconds = self.opened_s.get(target)
        deviation = self.deviations.get(target)
        return [
            *cells,
            "" if best is None else f"{best:,.0f}",
            "" if seconds is None else f"{seconds:.1f}",
            "" if deviation is None else f"{deviation[0]:.2g} of {deviation[1]:.2g}",
        ]


_CAPTION = "pictures/s at the best size on one slot; deviation from the reference, and the limit"
