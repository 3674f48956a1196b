"""A worker without torch: what it serves from, where it writes, what it says without artifacts."""

import hashlib
import subprocess
import sys
from pathlib import Path

WORKER = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from mnv4serve.config import ServiceConfig
from mnv4serve.errors import MnvError
from mnv4serve.host import survey
from mnv4serve.metrics import Metrics
from mnv4serve.serving.assemble import assemble
config = ServiceConfig(models=Path(sys.argv[1]), state_dir=Path(sys.argv[2]))
try:
    assembled = assemble(survey(config), config, metrics=Metrics())
except MnvError as error:
    sys.exit(str(error))
print(len(assembled.views))
"""


def _worker(models: Path, state_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WORKER, str(models), str(state_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _contents(folder: Path) -> dict[Path, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_missing_artifact_is_refused_with_the_command(tiny_models: Path, tmp_path: Path) -> None:
    """Nothing is served that was not built, and nothing can be built without torch."""
    ended = _worker(tiny_models, tmp_path / "state")

    assert ended.returncode == 1
    assert "run `mnv4serve build`" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_only_the_state_folder_is_written_to(tiny_models: Path, tiny_state: Path) -> None:
    """Models may lie on a read-only volume: loading and measuring leave them as they were."""
    before = _contents(tiny_models)

    ended = _worker(tiny_models, tiny_state)

    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 0
    assert _contents(tiny_models) == before
