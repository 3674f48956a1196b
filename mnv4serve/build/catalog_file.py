"""Changing and writing a catalog: one line a certified figure, the same text for the same one."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnv4serve.build.files import replace_file
from mnv4serve.catalog import CATALOG_FILE, Catalog, Checkpoint, Variant

HEADER = (
    "# Written by mnv4serve from the weights and what was measured on them; edit nothing by hand.\n"
)


def save_catalog(catalog: Catalog) -> None:
    """Replace the catalog file at once; the old one stays where that fails."""
    replace_file(catalog.root / CATALOG_FILE, format_catalog(catalog).encode())


def format_catalog(catalog: Catalog) -> str:
    """The TOML text that `load_catalog` reads back as an equal catalog."""
    values = catalog.model_dump(mode="json", exclude={"root"}, exclude_none=True)
    zoos = values.pop("zoos")
    lines = [HEADER, *_pairs(values)]
    for name, zoo in zoos.items():
        lines += _table(f"zoos.{json.dumps(name)}", zoo)
    return "\n".join(lines) + "\n"


def with_variant(catalog: Catalog, zoo: str, checkpoint: Checkpoint, variant: Variant) -> Catalog:
    """The catalog with a checkpoint and one of its variants added or replaced, in order."""
    name, old = catalog.zoo(zoo)
    checkpoints = {entry.name: entry for entry in (*old.checkpoints, checkpoint)}
    variants = {entry.name: entry for entry in (*old.variants, variant)}
    ordered = sorted(variants.values(), key=lambda entry: (entry.checkpoint, entry.resolution))
    new = old.model_copy(
        update={"checkpoints": tuple(checkpoints.values()), "variants": tuple(ordered)}
    )
    return catalog.model_copy(update={"zoos": {**catalog.zoos, name: new}})


def without_variant(catalog: Catalog, zoo: str, variant: str) -> Catalog:
    """The catalog without one of a zoo's variants."""
    name, old = catalog.zoo(zoo)
    kept = tuple(entry for entry in old.variants if entry.name != variant)
    new = old.model_copy(update={"variants": kept})
    return catalog.model_copy(update={"zoos": {**catalog.zoos, name: new}})


def _table(path: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A table, then its lists of records as tables of their own, apart from plain ones."""
    records = {key: values[key] for key in ("checkpoints", "variants") if values.get(key)}
    yield f"\n[{path}]"
    yield from _pairs({key: value for key, value in values.items() if key not in records})
    for key, entries in records.items():
        for entry in entries:
            yield f"\n[[{path}.{key}]]"
            yield from _pairs(entry)


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{key} = ["
            yield from (f"  {_inline(entry)}," for entry in value)
            yield "]"
        else:
            yield f"{key} = {_inline(value)}"


def _inline(value: object) -> str:
    """A value on one line; JSON's strings, numbers and booleans are TOML's as well."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_pairs(value))} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_inline(entry) for entry in value)}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
