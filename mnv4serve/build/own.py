"""Zoos of the user's own: a folder each, with catalog, weights and proof; models/ stays read-only.

A zoo exists once its catalog is written, which is the last thing to happen to each variant.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnv4serve.build.catalog_file import save_catalog, with_variant
from mnv4serve.catalog import (
    CATALOG_FILE,
    Catalog,
    Certified,
    Checkpoint,
    File,
    Variant,
    Zoo,
    load_catalog,
    own_zoo,
)
from mnv4serve.errors import CatalogError, StorageError

NAME = re.compile("[a-z0-9][a-z0-9_-]{0,39}")
PICTURES = "verify/pictures.npz"


def check_new_name(zoos: Path, name: str, *, taken: Catalog) -> None:
    """Refuse a name that is no folder's, or that a zoo has already."""
    if not NAME.fullmatch(name):
        raise CatalogError(
            f"{name!r} is no name for a zoo: take up to 40 small letters, digits, - and _"
        )
    if name in taken.zoos or own_zoo(zoos, name).joinpath(CATALOG_FILE).exists():
        raise CatalogError(f"there is a zoo {name} already: choose another name with --zoo")


def begin(zoos: Path, name: str, zoo: Zoo, *, pictures: bytes) -> Catalog:
    """A catalog for a new zoo with its verification pictures, not written before it has variants.

    Where the zoo is there already, that one is given back.
    """
    root = own_zoo(zoos, name)
    if (root / CATALOG_FILE).exists():
        return load_catalog(root)
    blank = Catalog(root=root, default_zoo=name, zoos={})
    file = put(blank, PICTURES, pictures)
    return blank.model_copy(update={"zoos": {name: zoo.model_copy(update={"pictures": file})}})


def is_own(catalog: Catalog, zoos: Path) -> bool:
    """Whether a catalog may be written: it belongs to a zoo of the user's own."""
    return catalog.root.resolve().parent == zoos.resolve()


def put(catalog: Catalog, path: str, content: bytes) -> File:
    """Write a file of a zoo at once; the old one stays where that fails."""
    target = catalog.root / path
    try:
        with _beside(target) as partial:
            partial.write_bytes(content)
            partial.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    return File(path=path, sha256=hashlib.sha256(content).hexdigest())


def adopt(catalog: Catalog, path: str, source: Path) -> File:
    """Take a large file over without a second copy where the disk allows it."""
    target = catalog.root / path
    try:
        with _beside(target) as partial:
            try:
                partial.hardlink_to(source.resolve())
            except OSError:
                shutil.copyfile(source, partial)
            with partial.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            partial.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    return File(path=path, sha256=digest)


def record(catalog: Catalog, variant: str, measured: Certified) -> Catalog:
    """Put a measured accuracy in the place of a published or older one; write the catalog."""
    _, zoo = catalog.zoo()
    old = zoo.variant(variant)
    kept = [
        entry
        for entry in old.certified
        if (entry.backend, entry.precision) != (measured.backend, measured.precision)
    ]
    new = old.model_copy(update={"certified": (*kept, measured)})
    return save(catalog, zoo.checkpoint(old.checkpoint), new)


def save(catalog: Catalog, checkpoint: Checkpoint, variant: Variant) -> Catalog:
    """Add or replace a checkpoint and a variant, and write the catalog."""
    larger = with_variant(catalog, catalog.default_zoo, checkpoint, variant)
    save_catalog(larger)
    return larger


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A name for a file that is not finished; nothing of it is left behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _unwritable(target: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{target} cannot be written ({error.strerror}): free some space, or let MNV4SERVE_ZOOS "
        "name another folder"
    )
