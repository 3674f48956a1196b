"""Files below models/ while a release writes them."""

import hashlib
from contextlib import suppress
from pathlib import Path

from mnv4serve.catalog import Catalog, File, Variant
from mnv4serve.errors import CatalogError, StorageError


def describe(catalog: Catalog, path: str) -> File:
    """The catalog entry of a file below models/."""
    try:
        content = (catalog.root / path).read_bytes()
    except OSError as error:
        raise CatalogError(f"{catalog.root / path} is missing: export the weights first") from error
    return File(path=path, sha256=hashlib.sha256(content).hexdigest())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file at once; where that fails the old one stays as it was."""
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(
            f"{path} cannot be written, the old one is kept: {error.strerror}"
        ) from error


def write_file(catalog: Catalog, path: str, content: bytes) -> File:
    """Put a file below models/ and give back its catalog entry."""
    replace_file(catalog.root / path, content)
    return File(path=path, sha256=hashlib.sha256(content).hexdigest())


def remove_files(catalog: Catalog, zoo: str, variant: Variant) -> None:
    """Take away what a variant alone needs."""
    files = [variant.batch_norm, variant.ranges, variant.reference]
    made = {f"weights/{zoo}/{variant.name}.ranges.json", ready_path(zoo, variant.name)}
    paths = {file.path for file in files if file} | made
    for path in paths:
        (catalog.root / path).unlink(missing_ok=True)


def ready_path(zoo: str, variant: str) -> str:
    """Where the ready-made int8 file of a variant lies below models/, if it has one."""
    return f"litert/{zoo}/{variant}.tflite"
