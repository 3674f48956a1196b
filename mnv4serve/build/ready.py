"""Ready-made files of models/ as artifacts, for machines without torch."""

from pathlib import Path

from mnv4serve.artifacts import Target, ready_made
from mnv4serve.build import verify
from mnv4serve.build.edgetpu_compile import compile_beside
from mnv4serve.build.files import ready_path, write_file
from mnv4serve.catalog import Catalog, File, Zoo
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError

FILE = "model.tflite"


def write_ready(catalog: Catalog, zoo_name: str, name: str) -> File:
    """Write a variant's ready-made file below models/, the bytes that a build would make."""
    from mnv4serve.build.assemble import exported  # noqa: PLC0415  # imports torch

    target = Target(name, BackendName.LITERT, Precision.INT8)
    content = exported(catalog, catalog.zoos[zoo_name], target)
    return write_file(catalog, ready_path(zoo_name, name), content)


def renewed(before: Catalog, catalog: Catalog, zoo_name: str, name: str) -> File | None:
    """The ready-made file of a variant that had one before, written anew; None where it had not."""
    known = {variant.name: variant for variant in before.zoos[zoo_name].variants}
    if name not in known or known[name].ready is None:
        return None
    return write_ready(catalog, zoo_name, name)


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
    deviation = verify.prove(catalog, zoo, target, path)
    more = compile_beside(path) if target.backend is BackendName.EDGETPU else ()
    return (path, *more), deviation
