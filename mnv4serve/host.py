"""What this machine can run: catalog, built artifacts and backends brought together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mnv4serve import artifacts
from mnv4serve.artifacts import Target, available_targets, third_party_targets
from mnv4serve.backends import Artifact, Availability, has_device, is_simulated, probe
from mnv4serve.catalog import Catalog, Variant, Zoo, open_catalog
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import Arm, ArmView, BackendName, Precision, Timing
from mnv4serve.errors import ArtifactMissing, BackendUnavailable, CatalogError
from mnv4serve.profiler import (
    Candidate,
    Layout,
    Profile,
    Progress,
    cpu_grant,
    host_fingerprint,
    layouts,
    load,
    measure_host,
    require_room,
    save,
)
from mnv4serve.profiler.apart import apart
from mnv4serve.readings import Reading, load_readings
from mnv4serve.router.frontier import Point, frontier, resident_set
from mnv4serve.router.walk import Marks, Walker, ties

MEMORY_PER_FILE_BYTE = 3
"""A loaded artifact holds its weights again, packed for the processor, and its activations."""

GPU_SLOTS = (4, 2, 1)
"""Jobs at a time that are tried on a GPU: one decodes while another's kernels run."""


@dataclass(frozen=True, slots=True)
class Host:
    """One zoo on one machine."""

    catalog: Catalog
    zoo_name: str
    zoo: Zoo
    state_dir: Path
    availabilities: tuple[Availability, ...]
    targets: tuple[Target, ...]
    """What could be built for the configured pools here."""

    def missing(self) -> tuple[Target, ...]:
        """Targets whose artifact is not there or not intact."""
        return tuple(target for target in self.targets if self._find(target) is None)

    def require(self, pool: PoolConfig) -> None:
        """Raise BackendUnavailable where no backend of a pool finds its device, saying why each."""
        simulated = is_simulated(pool.device)
        known = [
            found
            for found in self.availabilities
            if found.backend in pool.backends
            and all(is_simulated(there) == simulated for there in found.devices)
        ]
        if known and not any(has_device(found, pool.device) for found in known):
            raise BackendUnavailable(pool.label, "; ".join(_lacking(found) for found in known))

    def loadable(self, pool: PoolConfig) -> tuple[Candidate, ...]:
        """The pool's arms whose artifacts are there and intact.

        Raises ArtifactMissing naming the command that builds them where there is none.
        """
        targets = [
            target
            for target in self.targets
            if target.backend in pool.backends and not _emulated(target, pool.device)
        ]
        found = [(target, self._find(target)) for target in targets]
        candidates = tuple(
            Candidate(self._arm(target, pool), artifact, pool.device)
            for target, artifact in found
            if artifact is not None
        )
        if not candidates:
            raise ArtifactMissing(f"no artifact for {pool.label} is built: run `mnv4serve build`")
        return candidates

    def _find(self, target: Target) -> Artifact | None:
        return artifacts.find(self.state_dir, self.zoo, target)

    def _arm(self, target: Target, pool: PoolConfig) -> Arm:
        variant = self.zoo.variant(target.variant)
        simulated = is_simulated(pool.device)
        judged = BackendName.LITERT if simulated else target.backend  # which computes its answers
        return Arm(
            variant=variant.name,
            backend=target.backend,
            precision=target.precision,
            device=pool.label,
            resolution=variant.resolution,
            accuracy=variant.accuracy(judged, target.precision),
            accuracy_taken_over=variant.is_taken_over(judged, target.precision),
            simulated=simulated,
            temperature=variant.temperature,
        )


def survey(config: ServiceConfig, *, catalog: Catalog | None = None) -> Host:
    """Find out what can run here; raises BackendUnavailable where no backend can."""
    catalog = catalog or open_catalog(config.models, config.zoos, config.zoo)
    zoo_name, zoo = catalog.zoo(config.zoo)
    wanted = dict.fromkeys(
        (name, is_simulated(pool.device)) for pool in config.pools for name in pool.backends
    )
    availabilities = tuple(probe(name, simulated=simulated) for name, simulated in wanted)
    usable = [found for found in availabilities if found.available]
    if not usable:
        reasons = "; ".join(f"{found.backend}: {found.reason}" for found in availabilities)
        raise BackendUnavailable(", ".join(name for name, _ in wanted), reasons)
    targets = dict.fromkeys(
        target
        for variant in zoo.variants
        for target in _offered(zoo, variant, usable)
        if not artifacts.unfit(zoo, target)
    )
    return Host(catalog, zoo_name, zoo, config.state_dir, availabilities, tuple(targets))


def _lacking(found: Availability) -> str:
    there = ", ".join(found.devices) or "no device"
    return f"{found.backend}: {f'it finds {there}' if found.available else found.reason}"


def _emulated(target: Target, device: str) -> bool:
    """On a GPU ONNX Runtime turns int8 into fp32 at every step: slower than fp32, less accurate."""
    return device.startswith("cuda") and target.precision is Precision.INT8


def _offered(zoo: Zoo, variant: Variant, usable: Sequence[Availability]) -> tuple[Target, ...]:
    if variant.network is not None:
        return third_party_targets(zoo, variant, usable)
    return available_targets(variant, usable)


def profiled(
    site: Host,
    pool: PoolConfig,
    candidates: Sequence[Candidate],
    *,
    quick: bool,
    again: bool = False,
    progress: Progress | None = None,
) -> Profile:
    """The stored profile of a pool's arms, measured now where there is none or `again` asks for it.

    A stored thorough profile is as good as a quick one, not the other way round.
    """
    grant = cpu_grant(pool.cpus)
    choices = _layouts(pool, grant)
    fingerprint = host_fingerprint(
        grant=grant,
        runtimes=[found.runtime for found in site.availabilities if found.available],
        artifact_digests=[
            *(candidate.artifact.digest for candidate in candidates),
            *(f"{layout.slots}x{layout.threads}" for layout in choices),
        ],
    )
    stored = None if again else load(fingerprint, site.state_dir)
    if stored is not None and (quick or not stored.quick):
        return stored
    require_room(site.state_dir)
    work = partial(
        measure_host,
        candidates,
        fingerprint=fingerprint,
        preprocessing=site.zoo.preprocessing,
        choices=choices,
        quick=quick,
    )
    profile = apart(work, progress=progress or _silent)
    save(profile, site.state_dir)
    return profile


def _layouts(pool: PoolConfig, grant: int) -> tuple[Layout, ...]:
    """What the configuration leaves to be measured.

    An Edge TPU takes one job at a time; what runs on a GPU needs no more than a thread to wait.
    """
    if BackendName.EDGETPU in pool.backends:
        return (Layout(1, pool.threads or 1),)
    if pool.device.startswith("cuda"):
        slots = (pool.slots,) if pool.slots else tuple(n for n in GPU_SLOTS if n <= max(1, grant))
        return tuple(Layout(n, pool.threads or 1) for n in slots)
    if pool.slots is not None and pool.threads is not None:
        return (Layout(pool.slots, pool.threads),)
    if pool.slots is not None:
        return (Layout(pool.slots, max(1, grant // pool.slots)),)
    if pool.threads is not None:
        return (Layout(max(1, grant // pool.threads), pool.threads),)
    return layouts(grant)


def _silent(step: str, done: int, total: int) -> None:
    del step, done, total


def walked(site: Host, candidates: Sequence[Candidate], profile: Profile) -> tuple[Candidate, ...]:
    """A pool's arms, each that only looks more accurate than a faster one tied to that one."""
    readings = load_readings(site.catalog.root, site.zoo_name)
    known = [found.arm for found in candidates if found.arm.accuracy is not None]
    tied = ties(_walker(site.zoo, arm, _solo(profile, arm), readings) for arm in known)
    return tuple(
        replace(found, arm=replace(found.arm, tied_to=tied.get(found.arm.id, "")))
        for found in candidates
    )


def _walker(zoo: Zoo, arm: Arm, timing: Timing, readings: Mapping[str, Reading]) -> Walker:
    assert arm.accuracy is not None
    certified = zoo.variant(arm.variant).certificate(arm.backend, arm.precision)
    if certified is None or certified.reading is None:
        return Walker(arm.id, timing.p50_ms, arm.accuracy)
    if certified.reading not in readings:
        raise CatalogError(f"the log of readings lacks {arm.id}: restore it from the release")
    reading = readings[certified.reading]
    marks = Marks(reading.pictures, reading.mask) if reading.pictures else None
    network = f"{arm.variant} {arm.precision}"
    return Walker(arm.id, timing.p50_ms, arm.accuracy, certified.dev, marks, network)


def resident_views(
    candidates: Sequence[Candidate], config: ServiceConfig, profile: Profile
) -> tuple[ArmView, ...]:
    """A pool's arms as measured, with which of them are kept loaded and which are on top."""
    points = [Point(found.arm, _solo(profile, found.arm).p50_ms) for found in candidates]
    sizes = {found.arm.id: _memory_bytes(found.artifact) for found in candidates}
    resident = resident_set(
        points,
        max_arms=config.max_arms,
        memory_limit_bytes=config.memory_limit_bytes,
        sizes=sizes,
    )
    best = frontier(points)
    return tuple(
        ArmView(
            arm=found.arm,
            p50_ms=_solo(profile, found.arm).p50_ms,
            p99_ms=_solo(profile, found.arm).p99_ms,
            expected_ms=None,
            resident=found.arm in resident,
            on_frontier=found.arm in best,
        )
        for found in candidates
    )


def _solo(profile: Profile, arm: Arm) -> Timing:
    return profile.timings[arm.id][1]


def _memory_bytes(artifact: Artifact) -> int:
    """What a loaded artifact is taken to hold."""
    files = artifact.path.parent.glob(f"{artifact.path.stem}.*")
    return MEMORY_PER_FILE_BYTE * sum(file.stat().st_size for file in files)
