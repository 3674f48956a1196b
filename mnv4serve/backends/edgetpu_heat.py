"""How hot an Edge TPU is and whether it has slowed down for it, as the driver of the cards shows.

Sticks show no temperature; theirs is seen only in the device's slowdown.
"""

from dataclasses import dataclass
from pathlib import Path

from mnv4serve.backends.edgetpu_devices import SYSFS

_MILLI = 1000.0
_TRIP_POINTS = 3


@dataclass(frozen=True, slots=True)
class Heat:
    """One card's temperature, and where it begins to slow down."""

    celsius: float
    trips_celsius: tuple[float, ...]
    """At each of them the clock is halved once more."""

    @property
    def clock_ratio(self) -> float:
        """The clock over the full one, at this temperature."""
        halvings = sum(self.celsius >= trip for trip in self.trips_celsius)
        return float(0.5**halvings)


def heat_of(path: str, sysfs: Path = SYSFS) -> Heat | None:
    """Of the device with this path, for example `/dev/apex_0`; None where nothing shows it."""
    folder = sysfs / "class/apex" / Path(path).name
    celsius = _degrees(folder / "temp")
    if celsius is None:
        return None
    trips = (_degrees(folder / f"trip_point{number}_temp") for number in range(_TRIP_POINTS))
    return Heat(celsius, tuple(trip for trip in trips if trip is not None))


def heats(sysfs: Path = SYSFS) -> dict[str, Heat]:
    """Of every card, by its path, whether it can be used or not."""
    paths = [f"/dev/{entry.name}" for entry in sorted((sysfs / "class/apex").glob("apex_*"))]
    found = {path: heat_of(path, sysfs) for path in paths}
    return {path: heat for path, heat in found.items() if heat is not None}


def _degrees(file: Path) -> float | None:
    """A file of thousandths of a degree; None where it is missing or holds something else."""
    try:
        return int(file.read_text(encoding="ascii")) / _MILLI
    except (OSError, ValueError):
        return None
