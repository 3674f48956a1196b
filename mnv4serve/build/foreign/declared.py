"""What publishers say about preparing pictures in files beside the network."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mnv4serve.build.foreign.values import Declared
from mnv4serve.catalog import Preprocessing

NAMES = ("preprocessor_config.json", "config.json")
"""Of Hugging Face's transformers and of timm; beside the file, or above its folder `onnx`."""
_BICUBIC = 3
"""As Pillow numbers its filters."""
_LARGEST_BYTES = 1 << 20


def declared_beside(path: Path) -> Declared | None:
    """The first that says mean and deviation; None where nothing readable does."""
    folder = path.resolve().parent
    folders = [folder, *([folder.parent] if folder.name == "onnx" else [])]
    for place in (place / name for place in folders for name in NAMES):
        values = _read(place)
        found = _transformers(values) or _timm(values)
        if found is not None:
            return Declared(source=place.name, preprocessing=found)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return {}
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _transformers(values: dict[str, Any]) -> Preprocessing | None:
    if not values.get("do_normalize", True):
        values = {**values, "image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
    size, crop = _side(values.get("size")), _side(values.get("crop_size"))
    cropped = bool(values.get("do_center_crop")) and bool(size and crop)
    share = values.get("crop_pct") or (crop / size if cropped and size and crop else 1.0)
    shortest = cropped or "crop_pct" in values or "shortest_edge" in str(values.get("size"))
    return _checked(
        mean=values.get("image_mean"),
        std=values.get("image_std"),
        resize="shortest" if shortest else "squash",
        crop=min(1.0, share) if shortest else 1.0,
        interpolation="bicubic" if values.get("resample") == _BICUBIC else "bilinear",
    )


def _timm(values: dict[str, Any]) -> Preprocessing | None:
    inner = values.get("pretrained_cfg")
    values = inner if isinstance(inner, dict) else values
    squash = values.get("crop_mode") == "squash"
    return _checked(
        mean=values.get("mean"),
        std=values.get("std"),
        resize="squash" if squash else "shortest",
        crop=1.0 if squash else values.get("crop_pct", 1.0),
        interpolation="bicubic" if values.get("interpolation") == "bicubic" else "bilinear",
    )


def _side(size: object) -> int | None:
    """A side from a number or from a map of sides."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return size if isinstance(size, int) and size > 0 else None


def _checked(**values: object) -> Preprocessing | None:
    try:
        return Preprocessing.model_validate(values)
    except ValidationError:
        return None
