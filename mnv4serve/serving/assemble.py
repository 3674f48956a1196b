"""From configuration to pools that are loaded, warm and measured."""

from collections.abc import Sequence

import numpy as np

from mnv4serve.backends import Backend, open_backend
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import ArmView
from mnv4serve.host import Host, profiled, resident_views
from mnv4serve.metrics import Metrics
from mnv4serve.profiler import Candidate, Profile, Progress
from mnv4serve.router.planner import Rules
from mnv4serve.router.predict import Predictor
from mnv4serve.router.schedule import Ledger
from mnv4serve.serving.gateway import Assembled
from mnv4serve.serving.pool import Pool, Resident
from mnv4serve.serving.slot import decoder

REPLY_MS = 0.15
"""What handing over a reply is taken to cost until it has been observed."""
WARM_UP_RUNS = 3


def assemble(
    host: Host, config: ServiceConfig, *, metrics: Metrics, progress: Progress | None = None
) -> Assembled:
    """Measure the host where it has no profile, load the resident set, warm it up.

    Raises ArtifactMissing, BackendUnavailable or ProfileError.
    """
    pools: list[Pool] = []
    views: list[ArmView] = []
    for pool_config in config.pools:
        profile = profiled(host, pool_config, quick=True, progress=progress)
        pool_views = resident_views(host, pool_config, config, profile)
        pool = _pool(host, pool_config, config, profile, views=pool_views, progress=progress)
        metrics.watch_device(
            pool.routing.device,
            queue_depth=lambda pool=pool: pool.routing.ledger.depth,  # type: ignore[misc]
            slowdown=lambda pool=pool: pool.routing.predictor.slowdown,  # type: ignore[misc]
            simulated=any(view.arm.simulated for view in pool_views),
        )
        pools.append(pool)
        views += pool_views
    return Assembled(tuple(pools), tuple(views), decoder(host.zoo.preprocessing))


def _pool(
    host: Host,
    pool: PoolConfig,
    config: ServiceConfig,
    profile: Profile,
    *,
    views: Sequence[ArmView],
    progress: Progress | None,
) -> Pool:
    resident = {view.arm.id for view in views if view.resident}
    loadables = [found for found in host.loadable(pool) if found.arm.id in resident]
    residents = []
    for done, loadable in enumerate(loadables, start=1):
        residents.append(Resident(loadable.arm, _loaded(loadable, profile)))
        if progress:
            progress(f"loaded {loadable.arm.id}", done, len(loadables))
    return Pool(
        device=pool.device,
        residents=residents,
        ledger=Ledger(slots=profile.slots, max_queue=config.max_queue),
        predictor=Predictor(timings=profile.timings, decode=profile.decode, reply_ms=REPLY_MS),
        rules=Rules(config.on_time_target, config.late_limit_ms),
    )


def _loaded(loadable: Candidate, profile: Profile) -> Backend:
    """An open backend whose every slot has run, so that no request pays for the first one."""
    backend = open_backend(
        loadable.artifact,
        device=loadable.arm.device,
        slots=profile.slots,
        threads=profile.threads,
    )
    side = loadable.artifact.resolution
    pixels = np.zeros((1, side, side, 3), np.uint8)
    for slot in range(profile.slots):
        for _ in range(WARM_UP_RUNS):
            backend.infer(pixels, slot)
    return backend
