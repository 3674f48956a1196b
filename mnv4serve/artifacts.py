"""Where artifacts lie and how a built one is found again; needs no torch.

An artifact's folder is named by the hash of everything that made it, so a change of weights,
preprocessing, runtime or build code leads to another folder and an old one is never served.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from mnv4serve.backends import Artifact, Availability
from mnv4serve.catalog import File, Sha256, Variant, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable, CatalogError, StorageError

BUILD_REVISION = 1
"""Raised whenever the build code would make other bytes from the same inputs."""

MANIFEST = "manifest.json"
RUNTIMES: Mapping[BackendName, tuple[str, ...]] = {
    BackendName.CPU: ("openvino",),
    BackendName.ONNX: ("onnxruntime", "onnxruntime-gpu"),
    BackendName.LITERT: ("ai-edge-litert",),
    BackendName.EDGETPU: ("ai-edge-litert",),
    BackendName.CUDA: ("torch",),
}
"""Distributions that execute a backend's artifacts, the first installed one counts."""
BUILT: Mapping[BackendName, tuple[Precision, ...]] = {
    BackendName.CPU: (Precision.FP32, Precision.BF16, Precision.INT8),
    BackendName.ONNX: (Precision.FP32, Precision.INT8),
    BackendName.LITERT: (Precision.INT8,),
    BackendName.EDGETPU: (Precision.INT8,),
    BackendName.CUDA: (Precision.FP32, Precision.BF16, Precision.FP16),
}
"""The precisions in which each backend's artifacts can be built."""
SERVED_AS_IT_IS: Mapping[str, tuple[BackendName, ...]] = {
    ".onnx": (BackendName.CPU, BackendName.ONNX),
    ".tflite": (BackendName.LITERT,),
}
"""The backends of somebody else's network, by the kind of its file."""
_CONVOLUTIONS_ONLY = frozenset({BackendName.LITERT, BackendName.EDGETPU})
EDGETPU_COMPILER = "edgetpu_compiler"


@dataclass(frozen=True, slots=True)
class Target:
    """One of the artifacts that a variant can be built into."""

    variant: str
    backend: BackendName
    precision: Precision

    @override
    def __str__(self) -> str:
        return f"{self.variant}/{self.backend}/{self.precision}"


class StoredFile(BaseModel):
    """Name, size and hash of one file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    """Without any folder."""
    n_bytes: int
    sha256: Sha256


class Manifest(BaseModel):
    """What lies beside an artifact's files to recognise damaged ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Sha256
    ingredients: dict[str, Any]
    """Everything that the digest hashes, readable."""
    deviation: float
    """From the reference, measured before the artifact was accepted."""
    files: tuple[StoredFile, ...]
    """The first one is the file to load."""


def available_targets(variant: Variant, probes: Iterable[Availability]) -> tuple[Target, ...]:
    """What a variant can be built into for this host.

    Precisions that its processors execute natively, int8 only where ranges are shipped.
    """
    offered = set(Precision) if variant.ranges else set(Precision) - {Precision.INT8}
    return tuple(
        Target(variant.name, probe.backend, precision)
        for probe in probes
        if probe.available
        for precision in BUILT.get(probe.backend, ())
        if precision in offered and precision in probe.precisions
    )


def third_party_targets(
    zoo: Zoo, variant: Variant, probes: Iterable[Availability]
) -> tuple[Target, ...]:
    """What somebody else's network can be served as on this host.

    In the precision of its file, and where that is fp32 in bf16 as well.
    """
    assert variant.network is not None
    own = variant.network.precision
    wanted = (own, Precision.BF16) if own is Precision.FP32 else (own,)
    kind = Path(zoo.checkpoint(variant.checkpoint).weights.path).suffix
    backends = SERVED_AS_IT_IS.get(kind, ())
    return tuple(
        Target(variant.name, probe.backend, precision)
        for probe in probes
        if probe.available and probe.backend in backends
        for precision in wanted
        if precision in probe.precisions
    )


def unfit(zoo: Zoo, target: Target) -> str:
    """Why a variant has no place on a backend; empty where it has one."""
    architecture = zoo.checkpoint(zoo.variant(target.variant).checkpoint).architecture
    if target.backend in _CONVOLUTIONS_ONLY and architecture.startswith("hybrid"):
        return (
            f"{target.variant} has attention, which multiplies activations with each other: "
            f"{target.backend} computes convolutions only"
        )
    return ""


def ingredients_of(zoo: Zoo, target: Target, *, compiled: bool = False) -> dict[str, Any]:
    """All inputs of a build that can change its bytes or the proof that they are right.

    Raises BackendUnavailable where the backend's runtime is not installed, CatalogError where
    the variant has no ranges for int8.
    """
    variant = zoo.variant(target.variant)
    checkpoint = zoo.checkpoint(variant.checkpoint)
    preprocessing = zoo.preprocessing_of(variant.name)
    return {
        "revision": BUILD_REVISION,
        "backend": target.backend.value,
        "precision": target.precision.value,
        "runtime": _runtime(target.backend),
        "architecture": checkpoint.architecture,
        "labels": len(zoo.labels),
        "resolution": variant.resolution,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "weights": checkpoint.weights.sha256,
        "batch_norm": variant.batch_norm.sha256 if variant.batch_norm else None,
        "ranges": _ranges(variant, target.precision),
        "pictures": zoo.pictures.sha256,
        "reference": variant.reference.sha256,
        **_compiler(target, compiled=compiled),
        **({"network": variant.network.model_dump(mode="json")} if variant.network else {}),
    }


def ready_made(zoo: Zoo, target: Target) -> File | None:
    """The shipped file that an artifact is copied from, with the bytes that a build would make."""
    return zoo.variant(target.variant).ready if target.backend in _CONVOLUTIONS_ONLY else None


def digest_of(zoo: Zoo, target: Target, *, compiled: bool = False) -> str:
    """The address of an artifact: the hash of its ingredients."""
    ingredients = json.dumps(ingredients_of(zoo, target, compiled=compiled), sort_keys=True)
    return hashlib.sha256(ingredients.encode()).hexdigest()


def folder_of(state_dir: Path) -> Path:
    """The folder that holds one folder per artifact."""
    return state_dir / "artifacts"


def find(state_dir: Path, zoo: Zoo, target: Target) -> Artifact | None:
    """The built artifact after checking all its bytes; None where missing, stale or damaged.

    For an Edge TPU one that was compiled on another machine is preferred to none that was.
    """
    addresses = dict.fromkeys(digest_of(zoo, target, compiled=there) for there in (True, False))
    found = (_at(state_dir, digest, zoo, target) for digest in addresses)
    return next((artifact for artifact in found if artifact is not None), None)


def _at(state_dir: Path, digest: str, zoo: Zoo, target: Target) -> Artifact | None:
    folder = folder_of(state_dir) / digest
    manifest = read_manifest(folder)
    if manifest is None or manifest.digest != digest or not _intact(folder, manifest):
        return None
    return replace(artifact_at(folder / manifest.files[0].name, zoo, target), digest=digest)


def artifact_at(path: Path, zoo: Zoo, target: Target) -> Artifact:
    """What a backend has to know to load a target's file."""
    variant = zoo.variant(target.variant)
    return Artifact(
        path=path,
        backend=target.backend,
        precision=target.precision,
        variant=target.variant,
        resolution=variant.resolution,
        n_labels=len(zoo.labels),
        digest=digest_of(zoo, target),
        network=variant.network,
        preprocessing=zoo.preprocessing_of(variant.name) if variant.network else None,
    )


def read_manifest(folder: Path) -> Manifest | None:
    """What a folder says about itself; None where it says nothing readable."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        return None


def describe_file(path: Path) -> StoredFile:
    """A file's entry in a manifest, hashed from its bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(name=path.name, n_bytes=path.stat().st_size, sha256=digest)


def _intact(folder: Path, manifest: Manifest) -> bool:
    """Sizes first: a truncated file need not be hashed."""
    paths = [(folder / file.name, file) for file in manifest.files]
    try:
        sized = all(path.stat().st_size == file.n_bytes for path, file in paths)
        return bool(paths) and sized and all(describe_file(p) == file for p, file in paths)
    except OSError:
        return False


def _ranges(variant: Variant, precision: Precision) -> str | None:
    if precision is not Precision.INT8 or variant.network is not None:
        return None
    if variant.ranges is None:
        raise CatalogError(f"variant {variant.name} has no quantisation ranges, so no int8")
    return variant.ranges.sha256


def _compiler(target: Target, *, compiled: bool) -> dict[str, bool]:
    """Whether there is or was a compiler, which once installed makes another artifact."""
    if target.backend is not BackendName.EDGETPU:
        return {}
    return {"compiler": compiled or shutil.which(EDGETPU_COMPILER) is not None}


def _runtime(backend: BackendName) -> str:
    for distribution in RUNTIMES.get(backend, ()):
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    raise BackendUnavailable(backend, "its runtime is not installed")
