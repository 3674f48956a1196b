"""Ready-made files of models/ as artifacts, for machines without torch."""

from pathlib import Path

from mnv4serve.artifacts import Target, ready_made
from mnv4serve.build import verify
from mnv4serve.catalog import Catalog, Zoo
from mnv4serve.errors import CatalogError

FILE = "model.tflite"


def unpack(
    catalog: Catalog, zoo: Zoo, target: Target, folder: Path
) -> tuple[tuple[Path, ...], float]:
    """Copy a shipped file and measure its deviation by loading it as serving does.

    Raises ArtifactMismatch where it computes something else than the reference.
    """
    file = ready_made(zoo, target)
    if file is None:
        raise CatalogError(f"no ready-made file of {target} is shipped")
    path = folder / FILE
    path.write_bytes(catalog.read(file))
    return (path,), verify.prove(catalog, zoo, target, path)
