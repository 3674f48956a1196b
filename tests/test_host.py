"""Catalog, artifacts and backends come together to what a machine can run."""

import shutil
from pathlib import Path

import pytest

from mnv4serve.artifacts import Target
from mnv4serve.backends import Artifact
from mnv4serve.catalog import load_catalog
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import Arm, BackendName, Precision, Timing
from mnv4serve.errors import ArtifactMissing, CatalogError
from mnv4serve.host import Host, _emulated, _layouts, profiled, resident_views, survey, walked
from mnv4serve.profiler import Candidate, Profile
from mnv4serve.readings import Reading, append_reading, encode_marks, log_of
from mnv4serve.router.decode_cost import DecodeCost


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


@pytest.mark.parametrize(
    ("pool", "grant", "expected"),
    [
        (PoolConfig(device="cuda:0"), 16, [(4, 1), (2, 1), (1, 1)]),
        (PoolConfig(device="cuda:0"), 2, [(2, 1), (1, 1)]),
        (PoolConfig(device="cuda:0", slots=3), 16, [(3, 1)]),
        (PoolConfig(device="cpu"), 4, [(4, 1), (2, 2), (1, 4)]),
    ],
)
def test_a_gpu_needs_few_slots_and_no_threads(
    pool: PoolConfig, grant: int, expected: list[tuple[int, int]]
) -> None:
    """Its jobs wait for the device, so cores are not divided among them."""
    assert [(layout.slots, layout.threads) for layout in _layouts(pool, grant)] == expected


def test_int8_stays_off_the_gpu() -> None:
    """Where it would be slower than fp32; on the processor it is what is fast."""
    int8, fp32 = (Target("a@1", BackendName.ONNX, p) for p in (Precision.INT8, Precision.FP32))

    assert _emulated(int8, "cuda:0")
    assert not _emulated(fp32, "cuda:0")
    assert not _emulated(int8, "cpu")


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


def _judged(models: Path, right: dict[int, int]) -> Host:
    """The tiny zoo whose two fp32 arms labelled the first so many of a hundred pictures right."""
    catalog = load_catalog(models)
    name, zoo = catalog.zoo()
    variants = []
    for variant in zoo.variants:
        entry = variant.certified[0]
        digest, n_right = f"{variant.resolution:064d}", right[variant.resolution]
        append_reading(
            models,
            name,
            Reading(
                artifact=digest,
                variant=variant.name,
                backend=entry.backend,
                precision=entry.precision,
                runtime="openvino 1",
                date="2026-01-01",
                split="tiny val",
                n=100,
                right=n_right,
                pictures="f00d",
                marks=encode_marks((1 << n_right) - 1, 100),
            ),
        )
        changes = {"accuracy": n_right / 100, "dev": n_right / 100, "reading": digest}
        judged = entry.model_copy(update=changes)
        variants.append(variant.model_copy(update={"certified": (judged,)}))
    changed = zoo.model_copy(update={"variants": tuple(variants)})
    return Host(catalog, name, changed, models, (), ())


def _candidates(site: Host) -> tuple[list[Candidate], Profile]:
    """Both arms, the smaller one twice as fast."""
    found, timings = [], {}
    for variant in site.zoo.variants:
        arm = Arm(
            variant.name,
            BackendName.CPU,
            Precision.FP32,
            "cpu",
            variant.resolution,
            accuracy=variant.certified[0].accuracy,
        )
        artifact = Artifact(
            Path("none"), arm.backend, arm.precision, arm.variant, arm.resolution, 3, "0" * 64
        )
        found.append(Candidate(arm, artifact))
        timings[arm.id] = {1: Timing(arm.resolution / 32, 3.0, None, 10)}
    profile = Profile(
        fingerprint="f",
        measured_at="2026-01-01",
        quick=True,
        slots=1,
        threads=1,
        timings=timings,
        decode=DecodeCost(0.1, 0.0, 0.0, 0.0, 0.0),
    )
    return found, profile


@pytest.mark.parametrize(("slow", "tie"), [(53, "conv_small_035@32/cpu/fp32/cpu"), (70, "")])
def test_what_only_looks_better_is_tied(
    tiny_models: Path, tmp_path: Path, slow: int, tie: str
) -> None:
    """Three more of a hundred right is no proof, twenty more is."""
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    site = _judged(models, {32: 50, 64: slow})

    fast_arm, slow_arm = (found.arm for found in walked(site, *_candidates(site)))

    assert (fast_arm.tied_to, slow_arm.tied_to) == ("", tie)


def test_a_lost_log_is_named(tiny_models: Path, tmp_path: Path) -> None:
    """Certificates that name readings nobody has do not pass for others."""
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    site = _judged(models, {32: 50, 64: 53})
    log_of(models, site.zoo_name).unlink()

    with pytest.raises(CatalogError, match="restore it"):
        walked(site, *_candidates(site))


def test_arms_have_the_temperature_of_their_variant(
    tiny_models: Path, tiny_state: Path, tmp_path: Path
) -> None:
    """It changes what is said of an answer, not the artifact that gives it."""
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    path = models / "catalog.toml"
    warmer = path.read_text("utf-8").replace(
        "resolution = 64", "resolution = 64\ntemperature = 0.5"
    )
    path.write_text(warmer, "utf-8")
    config = ServiceConfig(models=models, state_dir=tiny_state)

    arms = [found.arm for found in survey(config).loadable(config.pools[0])]

    assert {(arm.resolution, arm.temperature) for arm in arms} == {(32, 1.0), (64, 0.5)}
