"""Recorded arrivals: their shape is kept, their clock is stretched to the wanted mean rate.

Two kinds of file are read, plain or packed (.gz, .bz2, .tbz2): CSV whose first column is a time
(ISO or seconds) under a heading, and whole numbers that count the requests of one second each.
"""

import bz2
import gzip
import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnv4serve.errors import BadConfig

Floats = NDArray[np.float64]
ENOUGH = 2
"""Arrivals that make a trace."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Times in seconds, or else counts of each second."""

    stamps: Floats
    counts: NDArray[np.int64] | None = None


def read_trace(path: Path, n: int, *, rate_per_s: float, rng: np.random.Generator) -> Floats:
    """`n` arrivals from a place in the trace that chance picks, going round at its end.

    Raises BadConfig where the file is no trace.
    """
    gaps = _gaps_s(path, n, rng)
    start = int(rng.integers(len(gaps)))
    taken = np.take(gaps, np.arange(start, start + n), mode="wrap")
    total = taken.sum()
    if total <= 0.0:
        raise BadConfig(f"trace {path}: all its requests come at the same time")
    times: Floats = np.cumsum(taken) * (n / rate_per_s / total)
    return times


def _gaps_s(path: Path, n: int, rng: np.random.Generator) -> Floats:
    """Times between requests; the last is followed by the first after a mean gap."""
    recorded = _recorded(path)
    stamps = recorded.stamps
    if recorded.counts is not None and len(recorded.counts):
        stamps = _within_seconds(recorded.counts, n, rng)
    if len(stamps) < ENOUGH:
        raise BadConfig(f"trace {path} is empty: it needs at least two requests")
    gaps = np.diff(np.sort(stamps))
    return np.append(gaps, gaps.mean())


def _within_seconds(counts: NDArray[np.int64], n: int, rng: np.random.Generator) -> Floats:
    """As many arrivals a second as were counted, anywhere within it; about `n` are enough."""
    rolled = np.roll(counts, -int(rng.integers(len(counts))))
    needed = int(np.searchsorted(np.cumsum(rolled), n)) + 1
    seconds = np.repeat(np.arange(len(rolled[:needed])), rolled[:needed])
    return seconds + rng.uniform(size=len(seconds))


@lru_cache(maxsize=4)
def _recorded(path: Path) -> _Recorded:
    text = _text(path)
    try:
        if "," in text[:10_000]:
            return _Recorded(_finite(_stamps(text)))
        counts = np.array(text.split(), dtype=np.int64)
    except ValueError as error:
        raise BadConfig(
            f"trace {path} is neither CSV with times nor whole numbers a second"
        ) from error
    if len(counts) and counts.min() < 0:
        raise BadConfig(f"trace {path} counts fewer than no requests in a second")
    return _Recorded(np.empty(0), counts)


def _finite(stamps: Floats) -> Floats:
    if not np.isfinite(stamps).all():
        raise ValueError
    return stamps


def _stamps(text: str) -> Floats:
    cells = [line.split(",", 1)[0].strip() for line in text.splitlines()[1:] if line.strip()]
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        stamps = np.array(cells, dtype="datetime64[ns]")
        return (stamps - stamps[0]) / np.timedelta64(1, "s") if len(stamps) else np.empty(0)


def _text(path: Path) -> str:
    try:
        return _unpacked(path).decode()
    except (OSError, EOFError, UnicodeDecodeError, tarfile.TarError) as error:
        raise BadConfig(f"trace {path} cannot be read: {error}") from error


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".bz2":
        return bz2.decompress(path.read_bytes())
    if path.suffix == ".tbz2":
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:bz2") as archive:
            first = next(member for member in archive.getmembers() if member.isfile())
            found = archive.extractfile(first)
            assert found is not None
            return found.read()
    return path.read_bytes()
