"""Artifacts of somebody else's network: made and proven in a child, so that none kills a build."""

from pathlib import Path

from mnv4serve.artifacts import Target
from mnv4serve.build.foreign.child import Task, ask
from mnv4serve.catalog import Catalog, Zoo
from mnv4serve.domain import BackendName
from mnv4serve.errors import ArtifactMismatch, CatalogError

Files = tuple[Path, ...]


def assemble(catalog: Catalog, zoo: Zoo, target: Target, folder: Path) -> tuple[Files, float]:
    """Write an artifact's files and measure their deviation from the file as it came.

    Raises ArtifactMismatch where a runtime does not read it or computes something else.
    """
    variant = zoo.variant(target.variant)
    checkpoint = zoo.checkpoint(variant.checkpoint)
    source = catalog.root / checkpoint.weights.path
    files = _files(target, folder)
    assert variant.network is not None
    task: Task = {
        "path": str(source),
        "network": variant.network.model_dump(mode="json"),
        "preprocessing": zoo.preprocessing_of(variant.name).model_dump(mode="json"),
        "resolution": variant.resolution,
        "n_labels": len(zoo.labels),
        "backend": target.backend,
        "precision": target.precision,
        "variant": variant.name,
        "catalog": str(catalog.root),
    }
    try:
        content = catalog.read(checkpoint.weights)  # checked to be the catalogued bytes
        if source.suffix == ".tflite":
            files[0].write_bytes(content)
        else:
            ask({**task, "task": "wrap", "out": str(files[0])}, subject=source)
        deviation = ask({**task, "task": "prove", "path": str(files[0])}, subject=source)
    except CatalogError as error:
        said = str(error)
        named = said.startswith(str(target))
        raise ArtifactMismatch(said if named else f"{target}: {said}") from error
    return files, float(deviation)


def _files(target: Target, folder: Path) -> Files:
    match target.backend:
        case BackendName.CPU:
            return folder / "model.xml", folder / "model.bin"
        case BackendName.LITERT:
            return (folder / "model.tflite",)
        case _:
            return (folder / "model.onnx",)
