"""Zoos of the user's own: a folder each, with catalog, weights and proof; models/ stays read-only.

A zoo exists once its catalog is written, which is the last thing to happen to each variant.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
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
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BadConfig, CatalogError, StorageError

NAME = re.compile("[a-z0-9][a-z0-9_-]{0,39}")
PICTURES = "verify/pictures.npz"


def check_name(zoos: Path, name: str, classes: Sequence[str], *, shipped: Catalog) -> None:
    """Refuse a name that is none, that models/ has, or that belongs to other classes."""
    if not NAME.fullmatch(name):
        raise BadConfig(
            f"{name!r} is no name for a zoo: take up to 40 small letters, digits, - and _"
        )
    if name in shipped.zoos:
        raise CatalogError(f"{name} is a zoo that comes with mnv4serve: choose another name")
    if not (own_zoo(zoos, name) / CATALOG_FILE).exists():
        return
    _, zoo = load_catalog(own_zoo(zoos, name)).zoo(name)
    if tuple(label.id for label in zoo.labels) != tuple(classes):
        raise CatalogError(f"there is a zoo {name} of other classes already: choose another name")


def find_variant(models: Path | None, zoos: Path, text: str) -> tuple[Catalog, str, Variant]:
    """A variant by its name, or as ZOO/VARIANT, with its catalog and zoo.

    Raises CatalogError where there is none, or where several zoos have one.
    """
    named, _, variant = text.rpartition("/")
    shipped = load_catalog(models)
    catalogs = [shipped, *(load_catalog(path.parent) for path in zoos.glob(f"*/{CATALOG_FILE}"))]
    places = [(catalog, name) for catalog in catalogs for name in catalog.zoos]
    found = [
        (catalog, name, entry)
        for catalog, name in places
        for entry in catalog.zoos[name].variants
        if entry.name == variant and named in ("", name)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(name for _, name in places)
        raise CatalogError(f"no zoo has a variant {text}; there are the zoos {known}")
    several = " or ".join(f"{name}/{variant}" for _, name, _ in found)
    raise CatalogError(f"several zoos have a variant {variant}: say {several}")


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
    _, zoo = load_catalog(catalog.root).zoo()
    old = zoo.variant(variant)
    others = [c for c in old.certified if (c.backend, c.precision) != _key(measured)]
    new = old.model_copy(update={"certified": (*others, measured)})
    return save(catalog, zoo.checkpoint(old.checkpoint), new)


def _key(entry: Certified) -> tuple[BackendName, Precision]:
    return entry.backend, entry.precision


def save(catalog: Catalog, checkpoint: Checkpoint, variant: Variant) -> Catalog:
    """Add or replace a checkpoint and a variant in the catalog as it is on disk now."""
    with _locked(catalog.root):
        there = (catalog.root / CATALOG_FILE).exists()
        current = load_catalog(catalog.root) if there else catalog
        larger = with_variant(current, catalog.default_zoo, checkpoint, variant)
        save_catalog(larger)
    return larger


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other commands that write this zoo out; a command that died leaves no lock behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
