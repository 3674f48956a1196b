"""From configuration to pools that are loaded, warm and measured."""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import numpy as np

from mnv4serve.backends import Backend, holds_one_model, open_backend, thermometer
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import Arm, ArmView
from mnv4serve.errors import ArtifactMissing, BackendUnavailable
from mnv4serve.host import Host, profiled, resident_views, walked
from mnv4serve.metrics import Metrics
from mnv4serve.profiler import Candidate, Profile, Progress
from mnv4serve.router import planner
from mnv4serve.router.frontier import contenders
from mnv4serve.router.planner import Rules
from mnv4serve.router.policies import Setting, make_policy
from mnv4serve.router.predict import Predictor
from mnv4serve.router.prior import worthwhile_batches
from mnv4serve.router.residency import residency_of
from mnv4serve.router.schedule import Ledger
from mnv4serve.serving.cores import shares
from mnv4serve.serving.pool import Pool, Resident
from mnv4serve.serving.rehearsal import Lent, rehearse
from mnv4serve.serving.site import Assembled, PoolLike
from mnv4serve.serving.slot import decoder

logger = logging.getLogger(__name__)

REPLY_MS = 0.15
"""What handing over a reply is taken to cost until it has been observed."""
CPU = "cpu"
WARM_UP_RUNS = 3


def assemble(
    host: Host,
    config: ServiceConfig,
    *,
    metrics: Metrics,
    progress: Progress | None = None,
    only: Callable[[Arm], bool] | None = None,
) -> Assembled:
    """Measure the host where it has no profile, load the resident set, rehearse a few requests.

    Arms that `only` selects are loaded instead of the resident set, where there are any. A pool
    whose device cannot be used is left out with its reason. Raises ArtifactMissing or
    BackendUnavailable where that leaves none, else ProfileError.
    """
    lock = Lock()
    opened: list[_Opened] = []
    refused: list[ArtifactMissing | BackendUnavailable] = []
    reached: list[PoolConfig] = []
    for pool in config.pools:  # all of them, before measuring the first one takes its time
        with _left_out(pool, refused):
            _reach(host, pool)
            reached.append(pool)
    for pool in reached:
        with _left_out(pool, refused):
            opened.append(_open(host, config, pool, lock=lock, progress=progress, only=only))
    if not opened:
        raise refused[0]
    for one in opened:
        watch(metrics, one.pool)
    own = {v.name: v.preprocessing for v in host.zoo.variants if v.preprocessing}
    decode = decoder(host.zoo.preprocessing, own)
    views = tuple(view for one in opened for view in one.views)
    profiles = tuple(one.profile for one in opened)
    stand_ins = tuple(_stand_in(one, config, lock) for one in opened)
    rehearse(Assembled(stand_ins, views, decode, lock), labels=[x.name for x in host.zoo.labels])
    return Assembled(tuple(one.pool for one in opened), views, decode, lock, profiles)


@contextmanager
def _left_out(
    pool: PoolConfig, refused: list[ArtifactMissing | BackendUnavailable]
) -> Iterator[None]:
    """Go on without a pool whose device or artifacts are not there, and say so."""
    try:
        yield
    except (ArtifactMissing, BackendUnavailable) as error:
        logger.warning("pool_left_out", extra={"pool": pool.label, "reason": str(error)})
        refused.append(error)


def _reach(host: Host, pool: PoolConfig) -> None:
    """Raise where a device is missing; one that somebody else may hold is opened to find out."""
    host.require(pool)
    first = host.loadable(pool)[0]
    if holds_one_model(first.artifact.backend):
        open_backend(first.artifact, device=first.device, slots=1, threads=1).close()


@dataclass(frozen=True, slots=True)
class _Opened:
    """One pool, loaded and warm."""

    pool: Pool
    residents: tuple[Resident, ...]
    views: tuple[ArmView, ...]
    profile: Profile


def _open(
    host: Host,
    config: ServiceConfig,
    pool: PoolConfig,
    *,
    lock: Lock,
    progress: Progress | None,
    only: Callable[[Arm], bool] | None,
) -> _Opened:
    candidates = host.loadable(pool)
    profile = profiled(host, pool, candidates, quick=True, progress=progress)
    candidates = walked(host, candidates, profile)
    views = resident_views(candidates, config, profile)
    resident = [view.arm for view in views if view.resident]
    wanted = [view.arm for view in views if only and only(view.arm)] or resident
    residents = _load([found for found in candidates if found.arm in wanted], profile, progress)
    own = shares(slots=profile.slots, threads=profile.threads) if pool.device == CPU else ()
    made = _pool(pool.label, residents, profile=profile, config=config, lock=lock, cores=own)
    thermometers = (thermometer(name, pool.device) for name in pool.backends)
    made.thermometer = next((one for one in thermometers if one is not None), None)
    return _Opened(made, tuple(residents), views, profile)


def _stand_in(opened: _Opened, config: ServiceConfig, lock: Lock) -> Pool:
    """A pool that knows what the real one did when it was new, on the same networks."""
    lent = [Resident(resident.arm, Lent(resident.backend)) for resident in opened.residents]
    label = opened.pool.routing.device
    return _pool(label, lent, profile=opened.profile, config=config, lock=lock)


def _pool(
    device: str,
    residents: Sequence[Resident],
    *,
    profile: Profile,
    config: ServiceConfig,
    lock: Lock,
    cores: Sequence[Collection[int]] = (),
) -> Pool:
    predictor = Predictor(timings=profile.timings, decode=profile.decode, reply_ms=REPLY_MS)
    arms = tuple(resident.arm for resident in residents)
    policy = make_policy(config.policy, Setting(arms, predictor, profile.slots))
    ledger = Ledger(
        slots=profile.slots,
        max_queue=config.max_queue,
        residency=residency_of(profile.switching_ms),
    )
    usual = () if profile.switching_ms else contenders(arms, profile.timings)
    routing = planner.Pool(device, arms, predictor, ledger, policy, usual)
    rules = Rules(config.on_time_target, config.late_limit_ms)
    return Pool(routing, residents=residents, rules=rules, lock=lock, cores=cores)


def watch(metrics: Metrics, pool: PoolLike) -> None:
    """Export how busy and how slow a pool is, and whether it takes work."""
    routing = pool.routing
    metrics.watch_device(
        routing.device,
        queue_depth=lambda: routing.ledger.depth,
        slowdown=lambda: routing.predictor.slowdown,
        up=lambda: float(pool.up),
        simulated=any(arm.simulated for arm in routing.arms),
    )
    if pool.thermometer is not None:
        metrics.watch_heat(routing.device, pool.thermometer)
    metrics.watch_slots(
        routing.device,
        slots=lambda: routing.ledger.slots,
        busy=lambda: len(routing.ledger.running),
    )


def _load(
    candidates: Sequence[Candidate], profile: Profile, progress: Progress | None
) -> list[Resident]:
    residents = []
    for done, candidate in enumerate(candidates, start=1):
        residents.append(Resident(candidate.arm, _loaded(candidate, profile)))
        if progress:
            progress(f"loaded {candidate.arm.id}", done, len(candidates))
    return residents


def _loaded(candidate: Candidate, profile: Profile) -> Backend:
    """An open backend whose every slot has run each batch size, so that no request pays for it."""
    backend = open_backend(
        candidate.artifact,
        device=candidate.device,
        slots=profile.slots,
        threads=profile.threads,
    )
    side = candidate.artifact.resolution
    for size in (1, *worthwhile_batches(profile.timings)):
        pixels = np.zeros((size, side, side, 3), np.uint8)
        for slot in range(profile.slots):
            for _ in range(WARM_UP_RUNS):
                backend.infer(pixels, slot)
    return backend
