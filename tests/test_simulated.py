"""A simulated Edge TPU in a pool: only where it is configured, and marked wherever it is seen."""

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.artifacts import Target
from mnv4serve.build import build_artifact
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import BackendName, Precision
from mnv4serve.host import Host, survey
from mnv4serve.metrics import Metrics
from mnv4serve.serving.assemble import assemble

MODELS = Path(__file__).parents[1] / "models"
EDGETPU = PoolConfig(device="edgetpu:simulated-pcie", backends=(BackendName.EDGETPU,))
REAL = PoolConfig(device="edgetpu:0", backends=(BackendName.EDGETPU,))
VARIANT = "conv_small_050@96"


def site(tmp_path: Path, *pools: PoolConfig) -> Host:
    return survey(ServiceConfig(models=MODELS, state_dir=tmp_path, pools=pools))


def test_its_arms_are_marked(tmp_path: Path) -> None:
    """Arms of the simulated device say so and have the accuracy of what computes them."""
    host = site(tmp_path, PoolConfig(backends=(BackendName.LITERT,)), EDGETPU)
    target = Target(VARIANT, BackendName.EDGETPU, Precision.INT8)
    build_artifact(host.catalog, host.zoo, target, state_dir=tmp_path)

    (found,) = host.loadable(EDGETPU)

    assert found.arm.id == f"{VARIANT}/edgetpu/int8/edgetpu:simulated-pcie"
    assert found.arm.simulated
    certified = host.zoo.variant(VARIANT).accuracy(BackendName.LITERT, Precision.INT8)
    assert found.arm.accuracy == certified


def test_a_real_device_is_never_replaced(tmp_path: Path) -> None:
    """Without the name of a simulated device there is none, whatever else could be served."""
    host = site(tmp_path, PoolConfig(backends=(BackendName.LITERT,)), REAL)

    if host.availabilities[1].available:
        pytest.skip("this machine has an Edge TPU")
    assert {target.backend for target in host.targets} == {BackendName.LITERT}


def test_a_device_that_is_missing_leaves_the_others_serving(
    tiny_models: Path, tiny_state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The service starts with the pools that can be opened; which was left out is said first."""
    said_before: list[int] = []
    pools = (PoolConfig(slots=1, threads=1, backends=(BackendName.ONNX,)), REAL)
    config = ServiceConfig(models=tiny_models, state_dir=tiny_state, pools=pools)

    assembled = assemble(
        survey(config),
        config,
        metrics=Metrics(),
        progress=lambda *_: said_before.append(len(caplog.records)),
    )

    for pool in assembled.pools:
        pool.close()
    assert [pool.routing.device for pool in assembled.pools] == ["cpu"]
    assert [record.message for record in caplog.records] == ["pool_left_out"]
    assert vars(caplog.records[0])["pool"] == "edgetpu:0"
    assert "libedgetpu" in vars(caplog.records[0])["reason"]
    assert set(said_before) == {1}
