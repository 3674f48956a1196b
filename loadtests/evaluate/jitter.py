"""What the machine takes by itself, measured beside real runs: a process that sleeps and spins."""

import multiprocessing as mp
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np

SLEEP_S = 0.02
SPIN_S = 0.001
"""A twentieth of one core: enough to see pauses, little enough not to cause them."""
MS_PER_S = 1000.0
_PERCENTILES = (50.0, 99.0, 99.9)


@contextmanager
def beside(name: str, into: dict[str, float]) -> Iterator[None]:
    """Measure while the block runs; figures in milliseconds go into the dictionary."""
    ours, theirs = mp.Pipe()
    watcher = mp.get_context("spawn").Process(target=_watch, args=(theirs,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ours.send(None)
        overslept_ms, overrun_ms = ours.recv()
        watcher.join()
        into |= _figures(f"{name}: late from a sleep of {SLEEP_S * MS_PER_S:g} ms", overslept_ms)
        into |= _figures(f"{name}: spin of {SPIN_S * MS_PER_S:g} ms over by", overrun_ms)


def _watch(parent: Connection) -> None:
    overslept_ms, overrun_ms = [], []
    while not parent.poll():
        overslept_ms.append(overrun(SLEEP_S, time.sleep))
        overrun_ms.append(overrun(SPIN_S, _spin))
    parent.recv()
    parent.send((overslept_ms, overrun_ms))


def overrun(duration_s: float, act: Callable[[float], None]) -> float:
    """By how many milliseconds something took longer than it should."""
    started_s = time.perf_counter()
    act(duration_s)
    return (time.perf_counter() - started_s - duration_s) * MS_PER_S


def _spin(duration_s: float) -> None:
    end_s = time.perf_counter() + duration_s
    while time.perf_counter() < end_s:
        pass


def _figures(name: str, values_ms: list[float]) -> dict[str, float]:
    ranked = np.percentile(values_ms or [0.0], _PERCENTILES)
    return {f"{name}, p{p:g}": float(v) for p, v in zip(_PERCENTILES, ranked, strict=True)}
