"""What runs really take as they are served: real photos, every slot busy, no request to wait for.

A profile measures one thing at a time, again and again. Between different photos and arms, beside
another slot, the same work takes longer; the router finds that out by itself, the simulator has to
be told.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mnv4serve.backends import Backend
from mnv4serve.domain import Arm, Picture, Timing
from mnv4serve.serving.slot import MS_PER_S, Decode
from mnv4serve.serving.timeslice import lengthen_timeslice

ROUNDS = 2
"""How often every arm meets every photo, in each slot."""


@dataclass(frozen=True, slots=True)
class Work:
    """All that there is to run."""

    arms: Sequence[Arm]
    backends: Sequence[Backend]
    """Of each arm."""
    photos: Sequence[bytes]
    pictures: Sequence[Picture]
    decode: Decode


@dataclass(frozen=True, slots=True)
class Served:
    """How long runs took."""

    timings: dict[str, dict[int, Timing]]
    decodings: dict[tuple[Picture, int], float]


_Sample = tuple[int, int, float, float]
"""Arm, photo, milliseconds of decoding and of inference."""


def measure(work: Work, *, slots: int) -> Served:
    """Run every arm on every photo in all slots at once, each in an order of its own."""
    with ThreadPoolExecutor(slots, initializer=lengthen_timeslice) as threads:
        samples = [
            sample
            for found in threads.map(lambda slot: _run(work, slot), range(slots))
            for sample in found
        ]
    decode_ms: defaultdict[tuple[Picture, int], list[float]] = defaultdict(list)
    service_ms: defaultdict[str, list[float]] = defaultdict(list)
    for arm, photo, decoded_ms, inferred_ms in samples:
        decode_ms[work.pictures[photo], work.arms[arm].resolution].append(decoded_ms)
        service_ms[work.arms[arm].id].append(inferred_ms)
    return Served(
        {arm_id: {1: _timing(values)} for arm_id, values in service_ms.items()},
        {key: float(np.median(values)) for key, values in decode_ms.items()},
    )


def _run(work: Work, slot: int) -> list[_Sample]:
    """Arm by arm, as few of them serve at a time; photos come as they like."""
    chance = random.Random(slot)
    order = []
    for arm in chance.sample(range(len(work.arms)), len(work.arms)):
        photos = list(range(len(work.photos))) * ROUNDS
        chance.shuffle(photos)
        order += [(arm, photo) for photo in photos]
    return list(_samples(work, order, slot))


def _samples(work: Work, order: Iterable[tuple[int, int]], slot: int) -> Iterable[_Sample]:
    for arm, photo in order:
        started_s = time.perf_counter()
        pixels = work.decode(work.photos[photo], work.pictures[photo], work.arms[arm])
        decoded_s = time.perf_counter()
        work.backends[arm].infer(pixels[np.newaxis], slot)
        ended_s = time.perf_counter()
        yield arm, photo, (decoded_s - started_s) * MS_PER_S, (ended_s - decoded_s) * MS_PER_S


def _timing(values_ms: list[float]) -> Timing:
    p50_ms, p90_ms, p99_ms = (float(value) for value in np.percentile(values_ms, (50, 90, 99)))
    return Timing(p50_ms, p90_ms, p99_ms, len(values_ms))
