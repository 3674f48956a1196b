"""Measures the arms on this host: service times, decoding, slots x threads.

Everything that the router predicts from is measured where it is used; nothing is looked up.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

from mnv4serve.backends import Artifact, Backend, holds_one_model, open_backend
from mnv4serve.backends.cuda_buckets import BUCKETS
from mnv4serve.catalog import Preprocessing
from mnv4serve.domain import Arm, Timing
from mnv4serve.errors import ProfileError
from mnv4serve.images import decode, read_header
from mnv4serve.profiler.decoding import example_photo, measure_decode
from mnv4serve.profiler.layout import Jobs, Layout, choose_layout, cpu_grant, layouts
from mnv4serve.profiler.store import Profile, host_fingerprint, host_lock, load, require_room, save
from mnv4serve.profiler.timing import (
    BATCH_SIZES,
    QUICK_BATCH_SIZES,
    first_run_ms,
    measure,
    profile_arm,
    summarise,
)

__all__ = [
    "Candidate",
    "Layout",
    "Profile",
    "choose_layout",
    "cpu_grant",
    "first_run_ms",
    "host_fingerprint",
    "host_lock",
    "layouts",
    "load",
    "measure",
    "measure_decode",
    "measure_host",
    "profile_arm",
    "require_room",
    "save",
    "summarise",
]

LAYOUT_SECONDS = 1.5
QUICK_LAYOUT_SECONDS = 0.6
"""For each layout, all rounds together."""

Progress = Callable[[str, int, int], None]
"""Told what is measured next, how many steps are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arm with the artifact that has to be loaded to measure it."""

    arm: Arm
    artifact: Artifact
    device: str = "cpu"
    """As the runtime knows it; the arm's own may be a name that the configuration gave."""


def measure_host(
    candidates: Sequence[Candidate],
    *,
    fingerprint: str,
    preprocessing: Preprocessing,
    choices: Sequence[Layout],
    quick: bool,
    progress: Progress,
) -> Profile:
    """Measure every arm of one device, alone on this host while it lasts.

    `choices` are the layouts to try; a single one is taken as given. Raises what opening an
    artifact raises, and ProfileError where there is nothing to measure.
    """
    if not candidates or not choices:
        raise ProfileError("there is no arm to measure: run `mnv4serve build` first")
    steps = len(candidates) + 2
    with host_lock(waiting=lambda message: progress(message, 0, steps)):
        progress("slots x threads", 0, steps)
        layout = _layout(candidates, preprocessing=preprocessing, choices=choices, quick=quick)
        progress("decoding", 1, steps)
        decoding = measure_decode(
            resolutions=sorted({candidate.arm.resolution for candidate in candidates}),
            preprocessing=preprocessing,
            quick=quick,
        )
        timings: dict[str, dict[int, Timing]] = {}
        for done, candidate in enumerate(candidates, start=2):
            progress(candidate.arm.id, done, steps)
            timings[candidate.arm.id] = _timings(candidate, layout, quick=quick)
        switching = _switching(candidates, layout, timings)
    return Profile(
        fingerprint=fingerprint,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        quick=quick,
        slots=layout.slots,
        threads=layout.threads,
        timings=timings,
        decode=decoding,
        switching_ms=switching,
    )


def _switching(
    candidates: Sequence[Candidate], layout: Layout, timings: Mapping[str, Mapping[int, Timing]]
) -> dict[str, float]:
    """Of arms that displace each other, each measured after its neighbour."""
    found = {}
    sharing = [one for one in candidates if holds_one_model(one.artifact.backend)]
    for place, candidate in enumerate(sharing if len(sharing) > 1 else ()):
        other = sharing[place - 1]
        with closing(_open(candidate, layout)) as arriving, closing(_open(other, layout)) as there:
            first_ms = first_run_ms((there, other.arm), (arriving, candidate.arm))
        found[candidate.arm.id] = max(0.0, first_ms - timings[candidate.arm.id][1].p50_ms)
    return found


def _timings(candidate: Candidate, layout: Layout, *, quick: bool) -> dict[int, Timing]:
    sizes = _batch_sizes(candidate.device, quick=quick)
    with closing(_open(candidate, layout)) as backend:
        return profile_arm(backend, candidate.arm, batch_sizes=sizes, quick=quick)


def _batch_sizes(device: str, *, quick: bool) -> tuple[int, ...]:
    """On a GPU every bucket is there anyway, and batches are what it is good at."""
    if device.startswith("cuda"):
        return BUCKETS
    return QUICK_BATCH_SIZES if quick else BATCH_SIZES


def _layout(
    candidates: Sequence[Candidate],
    *,
    preprocessing: Preprocessing,
    choices: Sequence[Layout],
    quick: bool,
) -> Layout:
    """Measured with the arm in the middle of the pack."""
    if len(choices) == 1:
        return choices[0]
    ranked = sorted(candidates, key=lambda c: (c.arm.resolution, c.artifact.path.stat().st_size))
    middle = ranked[len(ranked) // 2]
    seconds = QUICK_LAYOUT_SECONDS if quick else LAYOUT_SECONDS
    with ExitStack() as opened:

        def open_jobs(layout: Layout) -> Jobs:
            backend = opened.enter_context(closing(_open(middle, layout)))
            return _jobs(backend, middle.arm.resolution, preprocessing, layout.slots)

        chosen, _ = choose_layout(choices, open_jobs=open_jobs, seconds=seconds)
    return chosen


def _open(candidate: Candidate, layout: Layout) -> Backend:
    return open_backend(
        candidate.artifact,
        device=candidate.device,
        slots=layout.slots,
        threads=layout.threads,
    )


def _jobs(backend: Backend, resolution: int, preprocessing: Preprocessing, slots: int) -> Jobs:
    """What a slot executes for a request, once per slot."""
    image = example_photo()
    picture = read_header(image, max_pixels=len(image) * 1000)

    def run(slot: int) -> object:
        pixels = decode(image, picture, resolution=resolution, preprocessing=preprocessing)
        return backend.infer(pixels[np.newaxis], slot)

    return [partial(run, slot) for slot in range(slots)]
