"""Kinds of devices from what `--profile` names: arm tables, stored profiles, this machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mnv4serve.catalog import Zoo, load_catalog
from mnv4serve.cli.progress import progress_bar
from mnv4serve.config import ServiceConfig
from mnv4serve.domain import Arm, BackendName, Precision, Timing
from mnv4serve.errors import BadConfig, ProfileError
from mnv4serve.host import profiled, resident_views, survey
from mnv4serve.profiler import Profile
from mnv4serve.router.frontier import Point, resident_set
from mnv4serve.simulate.hardware import Kind
from mnv4serve.simulate.tables import load_table, shipped

HOST = "host"
HOP_MS, REPLY_MS, LOOP_MS = 0.15, 0.15, 0.3
"""Hand-over to a slot, writing of a reply and the event loop's part, which profiles do not tell."""

_PROFILE = TypeAdapter(Profile)


def load_kinds(profiles: Sequence[str], settings: ServiceConfig) -> tuple[Kind, ...]:
    """The kinds in the order they were named, `host` as all its devices."""
    kinds = [kind for name in profiles for kind in _named(name, settings)]
    names = [kind.name for kind in kinds]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadConfig(f"two profiles are called {twice}: give one of them another name")
    return tuple(kinds)


def measured_here(name: str) -> bool:
    """Whether a name stands for a host as it was measured, and not for an arm table."""
    if name == HOST or name in shipped() or Path(name).suffix != ".json":
        return name == HOST
    try:
        return "fingerprint" in json.loads(Path(name).read_bytes())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError):
        return False


def _named(name: str, settings: ServiceConfig) -> list[Kind]:
    if name == HOST:
        return _of_host(settings)
    return [_stored(Path(name), settings) if measured_here(name) else load_table(name)]


def _of_host(settings: ServiceConfig) -> list[Kind]:
    """The resident sets of the machine itself, measured where there is no profile yet."""
    site = survey(settings)
    kinds = []
    for pool in settings.pools:
        candidates = site.loadable(pool)
        with progress_bar(f"measuring {pool.device}") as advance:
            found = profiled(site, pool, candidates, quick=True, progress=advance)
        views = resident_views(candidates, settings, found)
        arms = [view.arm for view in views if view.resident and view.arm.accuracy is not None]
        kinds.append(_kind(pool.device, arms, found.timings, found))
    return kinds


def _stored(file: Path, settings: ServiceConfig) -> Kind:
    """The kind of a profile as the profiler stores it."""
    try:
        profile = _PROFILE.validate_json(file.read_bytes())
    except ValidationError as error:
        raise ProfileError(f"profile {file} is damaged: measure it again") from error
    _, zoo = load_catalog(settings.models).zoo(settings.zoo)
    arms = _arms(profile, zoo, device=file.stem)
    timings = {arm.id: by_batch for arm, by_batch in arms.items()}
    chosen = resident_set(
        [Point(arm, by_batch[1].p50_ms) for arm, by_batch in arms.items()],
        max_arms=settings.max_arms,
        memory_limit_bytes=len(arms),
        sizes=dict.fromkeys(timings, 1),
    )
    if not chosen:
        raise ProfileError(
            f"profile {file} has no arm of this zoo whose accuracy is known: name its --zoo"
        )
    return _kind(file.stem, chosen, timings, profile)


def _arms(profile: Profile, zoo: Zoo, *, device: str) -> dict[Arm, Mapping[int, Timing]]:
    """The profile's arms that the zoo knows an accuracy of."""
    known = {variant.name: variant for variant in zoo.variants}
    arms: dict[Arm, Mapping[int, Timing]] = {}
    for arm_id, by_batch in profile.timings.items():
        name, backend, precision, _ = arm_id.split("/")
        if name not in known:
            continue
        variant = known[name]
        runtime, number = BackendName(backend), Precision(precision)
        accuracy = variant.accuracy(runtime, number)
        if accuracy is not None:
            arm = Arm(name, runtime, number, device, variant.resolution, accuracy)
            arms[arm] = by_batch
    return arms


def _kind(
    name: str, arms: Sequence[Arm], timings: Mapping[str, Mapping[int, Timing]], profile: Profile
) -> Kind:
    return Kind(
        name=name,
        arms=tuple(arms),
        timings={arm.id: timings[arm.id] for arm in arms},
        slots=profile.slots,
        decode=profile.decode,
        hop_ms=HOP_MS,
        reply_ms=REPLY_MS,
    )
