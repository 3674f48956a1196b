"""Catalog, artifacts and backends come together to what a machine can run."""

from pathlib import Path

import pytest

from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import BackendName
from mnv4serve.errors import ArtifactMissing
from mnv4serve.host import profiled, resident_views, survey


def test_nothing_is_loadable_before_it_is_built(tiny_models: Path, tmp_path: Path) -> None:
    """The message names the command that builds it."""
    config = ServiceConfig(models=tiny_models, state_dir=tmp_path)
    site = survey(config)

    assert site.missing() == site.targets
    with pytest.raises(ArtifactMissing, match="mnv4serve build"):
        site.loadable(config.pools[0])


def test_a_pool_has_the_arms_of_its_backends(tiny_models: Path, tiny_state: Path) -> None:
    """Configuring one backend leaves the other one's arms out."""
    pool = PoolConfig(backends=(BackendName.ONNX,))
    config = ServiceConfig(models=tiny_models, state_dir=tiny_state, pools=(pool,))

    arms = [found.arm for found in survey(config).loadable(pool)]

    assert {arm.backend for arm in arms} == {BackendName.ONNX}
    assert {arm.variant for arm in arms} == {"conv_small_035@32", "conv_small_035@64"}
    assert all(arm.accuracy is not None for arm in arms)


def test_a_profile_is_measured_once(tiny_models: Path, tiny_state: Path) -> None:
    """The second start of the same host with the same artifacts reads it back."""
    config = ServiceConfig(models=tiny_models, state_dir=tiny_state)
    site = survey(config)
    candidates = site.loadable(config.pools[0])
    steps: list[str] = []

    again = profiled(
        site,
        config.pools[0],
        candidates,
        quick=True,
        progress=lambda step, _done, _total: steps.append(step),
    )

    assert steps == []
    assert set(again.timings) == {candidate.arm.id for candidate in candidates}


def test_configured_slots_are_part_of_what_is_measured(tiny_models: Path, tiny_state: Path) -> None:
    """A profile of another layout is not taken for this one."""
    pool = PoolConfig(slots=1, threads=1, backends=(BackendName.ONNX,))
    config = ServiceConfig(models=tiny_models, state_dir=tiny_state, pools=(pool,))
    site = survey(config)

    profile = profiled(site, pool, site.loadable(pool), quick=True)

    assert (profile.slots, profile.threads) == (1, 1)


def test_the_resident_set_respects_its_limit(tiny_models: Path, tiny_state: Path) -> None:
    """With room for one arm, one is resident; the frontier does not depend on it."""
    config = ServiceConfig(models=tiny_models, state_dir=tiny_state, max_arms=1)
    site = survey(config)
    candidates = site.loadable(config.pools[0])
    profile = profiled(site, config.pools[0], candidates, quick=True)

    views = resident_views(candidates, config, profile)

    assert sum(view.resident for view in views) == 1
    assert any(view.on_frontier for view in views)
    assert len(views) == len(candidates)
