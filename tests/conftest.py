"""Fixtures that several folders share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models/ folder with one small network of random weights at two resolutions."""
    pytest.importorskip("torch", reason="writing a zoo needs torch")
    from tests.tiny_zoo import write_tiny_zoo  # noqa: PLC0415  # imports torch

    return write_tiny_zoo(tmp_path_factory.mktemp("tiny") / "models")


@pytest.fixture(scope="session")
def tiny_state(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with that zoo's artifacts and its profile, as `serve` leaves it."""
    from mnv4serve.build import build_all  # noqa: PLC0415
    from mnv4serve.config import ServiceConfig  # noqa: PLC0415
    from mnv4serve.host import profiled, survey  # noqa: PLC0415

    state_dir = tmp_path_factory.mktemp("state")
    config = ServiceConfig(models=tiny_models, state_dir=state_dir)
    site = survey(config)
    built = build_all(site.catalog, site.zoo, site.targets, state_dir=state_dir)
    assert not built.refused
    pool = config.pools[0]
    profiled(site, pool, site.loadable(pool), quick=True)
    return state_dir


@pytest.fixture
def tiny_environment(tiny_models: Path, tiny_state: Path) -> dict[str, str]:
    """Environment of a process that runs `mnv4serve` on the tiny zoo."""
    return {
        **os.environ,
        "MNV4SERVE_MODELS": str(tiny_models),
        "MNV4SERVE_STATE_DIR": str(tiny_state),
        "COLUMNS": "200",
    }
