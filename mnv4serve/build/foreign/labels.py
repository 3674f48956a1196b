"""Labels of somebody else's classifier: the files that such networks come with."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnv4serve.catalog import Label
from mnv4serve.errors import CatalogError

FEWEST = 2
BACKGROUND = re.compile("background|dummy", re.IGNORECASE)
_SYNSET = re.compile(r"(n\d{8})[\s,:]+(.+)")
_NUMBERED = re.compile(r"(\d+)(?:\s*[:,]\s*|\s+)(.+)")
_FIRST_NUMBERS = (0, 1)


def read_labels(path: Path) -> tuple[Label, ...]:
    """One label a line, with a WordNet id or a number before it or not; or JSON.

    Lines that begin with # are comments. JSON may be a list, a map from number to name (or to id
    and name), one from name to number, or hold `id2label`. Raises CatalogError where there are
    fewer than two labels.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} cannot be read as a list of labels: {error}") from error
    entries = _from_json(path, text) if text.lstrip().startswith(("{", "[")) else _from_lines(text)
    if len(entries) < FEWEST:
        raise CatalogError(f"{path} names {len(entries)} labels: a classifier has two or more")
    return _labelled(entries)


def without_background(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels without a first one that stands for none of the others."""
    return tuple(labels[1:] if BACKGROUND.fullmatch(labels[0].name.strip()) else labels)


def agree(labels: Sequence[Label], known: Sequence[Label]) -> str:
    """Why a network of these labels cannot join a zoo of the known ones; empty where it can."""
    if len(labels) != len(known):
        return f"it has {len(labels)} labels, the zoo {len(known)}"
    for at, (mine, theirs) in enumerate(zip(labels, known, strict=True)):
        if not _words(mine) & _words(theirs):
            return f"label {at} is {mine.name!r}, in the zoo {theirs.name!r}"
    return ""


def _words(label: Label) -> set[str]:
    """What a label is called: data sets differ in how many synonyms they list."""
    names = [label.id, label.name, *label.name.split(",")]
    return {name.strip().lower().replace("_", " ") for name in names}


def _from_lines(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [found for found in map(_NUMBERED.fullmatch, lines) if found]
    numbers = [int(found.group(1)) for found in numbered]
    if any(numbers == list(range(at, at + len(lines))) for at in _FIRST_NUMBERS):
        lines = [found.group(2) for found in numbered]
    return [_pair(line) for line in lines]


def _pair(line: str) -> tuple[str, str]:
    """Id and name; the name for both where there is no id."""
    line = line.strip().strip("'\"")
    found = _SYNSET.fullmatch(line)
    return (found.group(1), found.group(2).strip()) if found else (line, line)


def _from_json(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        values = json.loads(text)
        if isinstance(values, dict):
            values = values.get("id2label", values)
        if isinstance(values, dict):
            values = _by_number(values)
        return [
            (str(entry[0]), str(entry[1])) if isinstance(entry, list) else _pair(str(entry))
            for entry in values
        ]
    except (ValueError, TypeError, IndexError) as error:
        raise CatalogError(
            f"{path} is no JSON list of labels, and no map from their numbers: {error}"
        ) from error


def _by_number(values: dict[str, Any]) -> list[Any]:
    """Of a map from numbers to names, or as Keras writes it from names to numbers."""
    if all(isinstance(number, int) for number in values.values()):
        return sorted(values, key=lambda name: int(values[name]))
    return [values[key] for key in sorted(values, key=int)]


def _labelled(entries: Sequence[tuple[str, str]]) -> tuple[Label, ...]:
    """Ids have to differ, which names do not always do: ImageNet has two cranes."""
    counts = Counter(key for key, _ in entries)
    return tuple(
        Label(id=key if counts[key] == 1 and key else f"{key}-{at}", name=name or f"class {at}")
        for at, (key, name) in enumerate(entries)
    )
