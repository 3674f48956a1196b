"""A virtual environment for each peer, made once and kept outside the repository."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from loadtests.asks import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements")
PINS = ROOT / "constraints.txt"
COMMON = ("numpy", "openvino", "pillow", "pydantic", "pyyaml", "simplejpeg", "typing-extensions")
"""What decoding and the artifact need, at this project's pins: an artifact belongs to a runtime."""
STAMP = "installed"

Tell = Callable[[str], None]


class PeerUnavailable(Exception):
    """A peer cannot be installed or started here; the message says why."""


def environments_folder() -> Path:
    """Where environments and logs lie; everything in it can be deleted."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mnv4serve-peers"


def requirements(name: str) -> tuple[str, ...]:
    """A peer's own pins, and this project's for what they leave open."""
    own = tuple(_lines(REQUIREMENTS / f"{name}.txt"))
    if own[0].startswith("."):  # this project itself, at its own pins
        return "--constraint", str(PINS), "--editable", f"{ROOT}{own[0][1:]}"
    taken = {_package(line) for line in own}
    shared = [line for line in _lines(PINS) if _package(line) in COMMON]
    return own + tuple(line for line in shared if _package(line) not in taken)


def ensure(name: str, *, tell: Tell) -> Path:
    """The interpreter of a peer's environment, installed where it is missing."""
    wanted = requirements(name)
    folder = environments_folder() / f"{name}-{_digest(wanted)}"
    interpreter = folder / "bin" / "python"
    if (folder / STAMP).exists():
        return interpreter
    tell(f"installing {name} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], name)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *wanted], name)
    (folder / STAMP).write_text("\n".join(wanted), "utf-8")
    return interpreter


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.splitlines() or ["pip says nothing"])[-1]
        raise PeerUnavailable(f"{name} cannot be installed: {reason}")


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def _package(requirement: str) -> str:
    return re.split(r"[\[=<>~ ]", requirement, maxsplit=1)[0].lower()


def _digest(wanted: tuple[str, ...]) -> str:
    pins = [PINS.read_text("utf-8")] if str(PINS) in wanted else []
    text = "\n".join((sys.version, *wanted, *pins))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
