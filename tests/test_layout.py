"""The tree itself: files that stay short, names that say something, examples that stay true."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from mnv4serve.config import ServiceConfig, load_config

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mnv4serve"
EXAMPLE_CONFIG = ROOT / "deployments" / "local.yaml"
LINE_LIMIT = 300


def sources(folder: Path) -> list[Path]:
    generated = PACKAGE / "v1"
    return sorted(path for path in folder.rglob("*.py") if generated not in path.parents)


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_no_source_file_is_longer_than_three_hundred_lines() -> None:
    """A file that outgrows one reading is split."""
    long = [p for p in sources(PACKAGE) if len(p.read_text("utf-8").splitlines()) > LINE_LIMIT]

    assert names(long) == []


def test_every_module_says_what_it_is_for() -> None:
    """Each module opens with a docstring; an empty `__init__` needs none."""
    silent = [
        path
        for path in sources(PACKAGE)
        if (text := path.read_text("utf-8")) and ast.get_docstring(ast.parse(text)) is None
    ]

    assert names(silent) == []


def test_no_module_is_a_catch_all() -> None:
    """A module is named after what it holds."""
    catch_alls = {"utils", "util", "helpers", "common", "misc"}

    found = [path for path in sources(PACKAGE) if catch_alls & {path.stem, path.parent.name}]

    assert names(found) == []


def test_annotations_are_real_objects() -> None:
    """pydantic, starlette and Ray read annotations at run time; as strings they mislead them."""
    postponed = [p for p in sources(PACKAGE) if "\nfrom __future__ import" in p.read_text("utf-8")]

    assert names(postponed) == []


def test_every_test_states_the_behaviour_it_holds() -> None:
    """A test without a sentence cannot be judged when it fails."""
    silent = [
        f"{path.relative_to(ROOT)}::{function.name}"
        for path in sources(ROOT / "tests")
        for function in _tests(path)
        if ast.get_docstring(function) is None
    ]

    assert silent == []


def _tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield node


def test_test_folders_mirror_the_package() -> None:
    """Tests of a part lie where the part lies: in the package, or beside it."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in sources(ROOT / "tests")}
    places = (PACKAGE, ROOT, ROOT / "loadtests")

    lost = {str(folder) for folder in folders if not any((at / folder).is_dir() for at in places)}

    assert lost <= {"gpu"}  # what `make test-gpu` runs where there is one


def test_the_example_configuration_is_the_default() -> None:
    """Starting with the example file changes nothing."""
    loaded = load_config(file=EXAMPLE_CONFIG, flags={}, environment={})

    assert loaded == ServiceConfig()


def test_the_example_configuration_shows_every_key() -> None:
    """Whoever reads the file has seen all that can be configured."""
    written = EXAMPLE_CONFIG.read_text("utf-8")
    keys = set(yaml.safe_load(written)) | {"state_dir", "zoos"}

    assert keys == set(ServiceConfig.model_fields)
    assert "# state_dir:" in written
    assert "# zoos:" in written


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [project["dependencies"], *(extras[name] for name in extras if name != "gpu")]
    return [Requirement(text) for text in sorted({text for group in listed for text in group})]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    """An install today and one next year give the same versions."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)

    pinned = pins.get(requirement.name.lower())

    assert pinned is not None, "run make lock"
    assert requirement.specifier.contains(pinned, prereleases=True), "run make lock"


def test_the_example_picture_is_an_ordinary_photo() -> None:
    """The first request of a newcomer sends a JPEG of the size that phones share."""
    content = (ROOT / "models" / "examples" / "golf_ball.jpg").read_bytes()

    assert content.startswith(b"\xff\xd8\xff")
    assert 60_000 <= len(content) <= 110_000
