"""Ready-made int8 files: taken without torch, and never other than what would be built."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")

from mnv4serve.artifacts import Target, read_manifest, ready_made
from mnv4serve.backends.litert_file import read
from mnv4serve.build.assemble import exported
from mnv4serve.build.litert_gates import faults, streamed_bytes
from mnv4serve.catalog import load_catalog
from mnv4serve.domain import BackendName, Precision

MODELS = Path(__file__).parents[2] / "models"
CATALOG = load_catalog(MODELS)
SHIPPED = [
    (zoo, Target(variant.name, BackendName.LITERT, Precision.INT8))
    for zoo in CATALOG.zoos
    for variant in CATALOG.zoos[zoo].variants
    if variant.ready
]


@pytest.mark.parametrize(("zoo", "target"), SHIPPED, ids=str)
def test_a_shipped_file_is_what_would_be_built(zoo: str, target: Target) -> None:
    """Weights that were released anew without it would be caught here; it maps and fits."""
    file = ready_made(CATALOG.zoos[zoo], target)
    assert file is not None
    content = CATALOG.read(file)

    contents = read(content)

    assert content == exported(CATALOG, CATALOG.zoos[zoo], target)
    assert list(faults(contents)) == []
    assert streamed_bytes(contents) == 0


def test_some_are_shipped() -> None:
    """A machine without torch has the fast arms to serve, in a few megabytes."""
    files = list((MODELS / "litert").rglob("*.tflite"))

    assert {file.stem for file in files} == {target.variant for _, target in SHIPPED}
    assert 0 < sum(file.stat().st_size for file in files) < 12_000_000


def test_an_artifact_is_made_without_torch(tmp_path: Path) -> None:
    """Building from a shipped file verifies it and imports neither torch nor onnx."""
    zoo, target = SHIPPED[0]
    code = (
        "import sys; from pathlib import Path\n"
        "sys.modules.update(torch=None, onnx=None, safetensors=None)\n"
        "from mnv4serve.artifacts import Target\n"
        "from mnv4serve.build import build_artifact\n"
        "from mnv4serve.catalog import load_catalog\n"
        "from mnv4serve.domain import BackendName, Precision\n"
        "catalog = load_catalog(Path(sys.argv[1]))\n"
        "target = Target(sys.argv[3], BackendName.LITERT, Precision.INT8)\n"
        "state = Path(sys.argv[4])\n"
        "found = build_artifact(catalog, catalog.zoos[sys.argv[2]], target, state_dir=state)\n"
        "print(found.path)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(MODELS), zoo, target.variant, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )

    path = Path(done.stdout.strip())
    manifest = read_manifest(path.parent)
    assert manifest is not None
    assert path.stat().st_size == manifest.files[0].n_bytes
    assert 0 < manifest.deviation < 0.1
