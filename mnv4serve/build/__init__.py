"""Reference + weights -> artifacts, each verified before it is accepted.

Importing this needs no torch; building does, and says so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mnv4serve.artifacts import Target, digest_of, find, ingredients_of, ready_made
from mnv4serve.backends import Artifact
from mnv4serve.build.store import locked, publish
from mnv4serve.catalog import Catalog, Zoo
from mnv4serve.domain import BackendName
from mnv4serve.errors import ArtifactMismatch, ArtifactMissing

TOOLCHAIN = ("torch", "onnx", "safetensors")

Progress = Callable[[Target, int, int], None]
"""Told the target that was just done, how many are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Built:
    """What came of building several targets."""

    artifacts: tuple[Artifact, ...]
    refused: tuple[ArtifactMismatch, ...]
    """Targets that were not accepted, with the reason; the others can be served."""


def build_all(
    catalog: Catalog,
    zoo: Zoo,
    targets: Iterable[Target],
    *,
    state_dir: Path,
    force: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build the targets that are missing, stale or damaged, or all of them with `force`."""
    wanted = tuple(targets)
    artifacts, refused = [], []
    for done, target in enumerate(wanted, start=1):
        try:
            artifacts.append(build_artifact(catalog, zoo, target, state_dir=state_dir, force=force))
        except ArtifactMismatch as error:
            refused.append(error)
        if progress:
            progress(target, done, len(wanted))
    return Built(tuple(artifacts), tuple(refused))


def build_artifact(
    catalog: Catalog, zoo: Zoo, target: Target, *, state_dir: Path, force: bool = False
) -> Artifact:
    """The artifact of one target, built and verified where there is no intact one.

    Raises ArtifactMissing where the build extra is not installed, ArtifactMismatch where the
    result differs from its reference, StorageError where it cannot be written.
    """
    ready = None if force else find(state_dir, zoo, target)
    if ready:
        return ready
    if needed := _toolchain(zoo, target):
        _require_toolchain(target, needed)
    with locked(state_dir):
        ready = None if force else find(state_dir, zoo, target)
        return ready or _build(catalog, zoo, target, state_dir)


def _build(catalog: Catalog, zoo: Zoo, target: Target, state_dir: Path) -> Artifact:
    if zoo.variant(target.variant).network is not None:
        from mnv4serve.build.foreign.artifact import assemble as make  # noqa: PLC0415
    elif ready_made(zoo, target) is None:
        from mnv4serve.build.assemble import assemble as make  # noqa: PLC0415  # imports torch
    else:
        from mnv4serve.build.ready import unpack as make  # noqa: PLC0415
    ingredients = ingredients_of(zoo, target)
    publish(
        state_dir,
        digest_of(zoo, target),
        ingredients,
        lambda folder: make(catalog, zoo, target, folder),
    )
    built = find(state_dir, zoo, target)
    if built is None:
        raise ArtifactMissing(f"{target} was damaged while it was stored: build it again")
    return built


def require_toolchain(purpose: str) -> None:
    """Raises ArtifactMissing where the build extra is not installed."""
    missing = _missing(TOOLCHAIN)
    if missing:
        raise ArtifactMissing(f"{purpose} needs {missing[0]}: install mnv4serve[build]")


def _toolchain(zoo: Zoo, target: Target) -> tuple[str, ...]:
    """The packages that making a target's artifact needs."""
    if zoo.variant(target.variant).network is not None:
        return () if target.backend is BackendName.LITERT else ("onnx", "onnxruntime")
    return TOOLCHAIN if ready_made(zoo, target) is None else ()


def _require_toolchain(target: Target, needed: Iterable[str]) -> None:
    missing = _missing(needed)
    if missing:
        raise ArtifactMissing(
            f"{target} is not built and {missing[0]} is not installed: install mnv4serve[build] "
            f"and run `mnv4serve build {target.variant}`"
        )


def _missing(needed: Iterable[str]) -> list[str]:
    return [name for name in needed if find_spec(name) is None]
