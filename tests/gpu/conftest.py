"""A GPU, artifacts of the shipped zoo built for it, and a page of what was found."""

import time
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from rich.console import Console

from mnv4serve.artifacts import Target
from mnv4serve.backends import Backend, open_backend, probe
from mnv4serve.build import build_artifact
from mnv4serve.build.verify import Evidence, evidence, limit
from mnv4serve.catalog import Catalog, Zoo, open_catalog
from mnv4serve.domain import BackendName
from tests.gpu.findings import Findings
from tests.gpu.subjects import Open, targets

_FINDINGS = Findings()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is here needs a GPU."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FINDINGS.device:
        terminalreporter.section("what was measured")
        Console(width=150).print(_FINDINGS.page())


@pytest.fixture(scope="session")
def device() -> str:
    """The GPU that is certified: the first one."""
    found = probe(BackendName.CUDA)
    if not found.available:
        pytest.skip(found.reason)
    _FINDINGS.device = f"{found.devices[0]}: {found.runtime}"
    return found.devices[0]


@pytest.fixture(scope="session")
def findings(device: str) -> Findings:
    assert device
    return _FINDINGS


@pytest.fixture(scope="session")
def shipped() -> tuple[Catalog, Zoo]:
    catalog = open_catalog(None, Path("none"), None)
    return catalog, catalog.zoo()[1]


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(params=targets(), ids=str)
def target(request: pytest.FixtureRequest, device: str) -> Target:
    """One of the artifacts; those of ONNX Runtime only where it sees the GPU too."""
    assert isinstance(request.param, Target)
    found = probe(request.param.backend)
    if device not in found.devices:
        pytest.skip(f"{request.param.backend}: {found.reason or 'it does not see the GPU'}")
    return request.param


@pytest.fixture
def proof(target: Target, shipped: tuple[Catalog, Zoo]) -> Evidence:
    catalog, zoo = shipped
    return evidence(catalog, zoo, zoo.variant(target.variant))


@pytest.fixture
def allowed(target: Target, shipped: tuple[Catalog, Zoo]) -> float:
    return limit(shipped[1].variant(target.variant), target)


@pytest.fixture
def opened(device: str, shipped: tuple[Catalog, Zoo], state_dir: Path, findings: Findings) -> Open:
    """Opens an artifact on the GPU, built first where that has not been done."""
    catalog, zoo = shipped

    def on_gpu(target: Target, *, slots: int = 1) -> AbstractContextManager[Backend]:
        artifact = build_artifact(catalog, zoo, target, state_dir=state_dir)
        started = time.perf_counter()
        backend = open_backend(artifact, device=device, slots=slots, threads=1)
        findings.opened_s.setdefault(target, time.perf_counter() - started)
        return closing(backend)

    return on_gpu
