"""From what a file says about itself to how it is probably to be fed, with the reasons."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from mnv4serve.build.foreign.values import (
    CAFFE_MEAN,
    CIFAR_MEAN,
    CIFAR_STD,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LEVEL,
    ONE,
    USUAL_CROP,
    WHITE,
    ZERO,
    Colours,
    Facts,
    Port,
    Way,
    Wishes,
)
from mnv4serve.catalog import Preprocessing, Triple
from mnv4serve.errors import CatalogError

USUAL_SIDE = 224
SMALL_SIDE = 64
"""Networks of this size and smaller look at whole thumbnails, not at centres of photos."""
RANK = 4
COLOURS = 3
NUMBERS = ("float32", "float16", "uint8", "int8")
RESCALING = 1 / 64
"""A factor below this turns pixels up to 255 into small numbers."""
PIXEL_MEAN = 16.0
"""Means above this are of pixels up to 255."""

Say = Callable[[str], None]


def picture_input(facts: Facts) -> Port:
    """The one input; raises CatalogError where the file takes something else than a picture."""
    if len(facts.inputs) != 1:
        names = ", ".join(port.name for port in facts.inputs) or "none"
        raise CatalogError(f"it has {len(facts.inputs)} inputs ({names}) instead of one picture")
    port = facts.inputs[0]
    if port.number not in NUMBERS:
        raise CatalogError(f"its input {port.name} takes {port.number}, not pictures")
    if len(port.shape) != RANK:
        raise CatalogError(
            f"its input {port.name} has the shape {_shape(port)}: a batch of pictures has {RANK} "
            "dimensions"
        )
    return port


def layout_of(port: Port, facts: Facts, wishes: Wishes, say: Say) -> str:
    """Where the channels are."""
    planes, last = port.shape[1], port.shape[3]
    possible = [
        name
        for name, size in (("NCHW", planes), ("NHWC", last))
        if size in (None, 1, COLOURS) and wishes.layout in (None, name)
    ]
    certain = [n for n, size in (("NCHW", planes), ("NHWC", last)) if size in (1, COLOURS)]
    chosen = [name for name in possible if name in certain] or possible
    if not chosen:
        raise CatalogError(f"its input of shape {_shape(port)} has no place for colours")
    if len(chosen) == 1:
        say(f"{chosen[0]}, from its input {_shape(port)}")
        return chosen[0]
    usual = "NHWC" if facts.kind == "tflite" else "NCHW"
    say(f"{usual}, as usual in .{facts.kind} files: its input {_shape(port)} leaves it open")
    return usual


def resolution_of(port: Port, layout: str, wishes: Wishes, say: Say) -> int:
    """The side of its pictures."""
    height, width = port.shape[2:] if layout == "NCHW" else port.shape[1:3]
    if height is not None and width is not None and height != width:
        raise CatalogError(f"it takes pictures of {width} x {height}: only square ones are served")
    fixed = height or width
    if fixed and wishes.resolution not in (None, fixed):
        raise CatalogError(f"it takes pictures of {fixed} pixels a side, not {wishes.resolution}")
    if fixed or wishes.resolution:
        return int(fixed or wishes.resolution or 0)
    say(f"{USUAL_SIDE} pixels a side, the usual size: the file takes any (--resolution)")
    return USUAL_SIDE


def colours_of(port: Port, layout: str, wishes: Wishes) -> Colours:
    channels = port.shape[1] if layout == "NCHW" else port.shape[3]
    if channels == 1:
        return "grey"
    return wishes.colours or "RGB"


def ways(
    facts: Facts, port: Port, side: int, colours: Colours, wishes: Wishes, say: Say
) -> list[Way]:
    """How pictures may have to be prepared, the likeliest first; the others are its rivals."""
    likeliest, reason = _likeliest(facts, port, side, colours)
    known = {way.name: way for way in _known(port, side)}
    if likeliest.name not in known:
        known = {likeliest.name: likeliest, **known}
    others = [way for name, way in known.items() if name != likeliest.name]
    certain = facts.declared is not None
    found = [likeliest, *([] if certain else others)]
    if wishes.mean is not None or wishes.std is not None:
        found = [Way(name="as asked for", colours="RGB", preprocessing=_plain(ZERO, ONE))]
        reason = "the flags"
    say(f"{found[0].name}, from {reason}")
    return _distinct([_asked(way, colours, side, wishes) for way in found])


def _asked(way: Way, colours: Colours, side: int, wishes: Wishes) -> Way:
    """A way with what the user said in the place of what is usual."""
    usual = way.preprocessing
    if side <= SMALL_SIDE and usual.crop == USUAL_CROP and wishes.crop is None:
        usual = usual.model_copy(update={"resize": "squash"})
    resize = wishes.resize or ("shortest" if wishes.crop else usual.resize)
    crop = usual.crop if wishes.crop is None else wishes.crop
    preprocessing = Preprocessing(
        resize=resize,
        crop=crop if resize == "shortest" else 1.0,
        interpolation=wishes.interpolation or usual.interpolation,
        mean=wishes.mean or usual.mean,
        std=wishes.std or usual.std,
    )
    fixed = wishes.colours or ("grey" if colours == "grey" else None)
    return Way(name=way.name, colours=fixed or way.colours, preprocessing=preprocessing)


def _distinct(found: Sequence[Way]) -> list[Way]:
    kept: list[Way] = []
    for way in found:
        if not any(way.same_values(other) for other in kept):
            kept.append(way)
    return kept


def _likeliest(facts: Facts, port: Port, side: int, colours: Colours) -> tuple[Way, str]:
    if facts.declared is not None:
        said = facts.declared
        return Way(
            name="as published", colours="RGB", preprocessing=said.preprocessing
        ), said.source
    if port.number in {"uint8", "int8"}:
        return _grid(port), f"its {port.number} input: quantised networks are fed with pixels"
    return _own_scaling(facts) or _by_origin(facts, side, grey=colours == "grey")


def _by_origin(facts: Facts, side: int, *, grey: bool) -> tuple[Way, str]:
    named = facts.producer.lower()
    way = next((way for pattern, way in _PRODUCERS if re.search(pattern, named)), None)
    if side <= SMALL_SIDE and facts.kind == "onnx" and way not in _OF_ANY_SIDE:
        small = _UNIT if grey else _CIFAR
        return small, f"its small pictures ({side} px), as {'MNIST' if grey else 'CIFAR'}'s"
    if way is not None:
        return way, f"its producer ({facts.producer})"
    if facts.kind == "tflite":
        return _MINUS_ONE, f"its origin ({facts.producer or 'TensorFlow'})"
    return _IMAGENET, "habit: nothing in the file says"


def _own_scaling(facts: Facts) -> tuple[Way, str] | None:
    """What is left to do where the network starts with a normalisation of its own."""
    held = [step for step in facts.first if step.constant.size]
    for step in held:
        size = float(np.abs(step.constant).max())
        small = step.kind == "Mul" and size <= RESCALING
        large = step.kind == "Div" and size >= 1 / RESCALING
        if small or large or (step.kind in {"Sub", "Add"} and size >= PIXEL_MEAN):
            return _PIXELS, f"its first operator ({step.kind}), which scales pixels itself"
    if any(step.kind in {"Sub", "Div"} for step in held):
        return _UNIT, "its first operators, which normalise pixels in 0..1"
    return None


def _known(port: Port, side: int) -> list[Way]:
    if port.number in {"uint8", "int8"}:
        return [_grid(port), *((_IMAGENET, _MINUS_ONE, _UNIT) if port.scale else ())]
    thumbnails = [_CIFAR] if side <= SMALL_SIDE else []
    return [_IMAGENET, _MINUS_ONE, _UNIT, _PIXELS, _CAFFE, *thumbnails]


def _grid(port: Port) -> Way:
    """The normalisation that makes the input's whole numbers the pixels themselves."""
    scale = port.scale or 1.0
    zero = port.zero_point + (128 if port.number == "int8" else 0)
    if port.number == "int8" and not port.scale:
        zero = 128
    mean, std = zero / WHITE, 1 / (WHITE * scale)
    return _way("pixels as they are", (mean, mean, mean), (std, std, std))


def _plain(mean: Triple, std: Triple) -> Preprocessing:
    return Preprocessing(resize="shortest", crop=USUAL_CROP, mean=mean, std=std)


def _way(name: str, mean: Triple, std: Triple, colours: Colours = "RGB") -> Way:
    return Way(name=name, colours=colours, preprocessing=_plain(mean, std))


def _shape(port: Port) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in port.shape) + "]"


_IMAGENET = _way("ImageNet's mean and deviation", IMAGENET_MEAN, IMAGENET_STD)
_MINUS_ONE = _way("pixels in -1..1", HALF, HALF)
_UNIT = _way("pixels in 0..1", ZERO, ONE)
_WHOLE_UNIT = _UNIT.model_copy(
    update={"preprocessing": _UNIT.preprocessing.model_copy(update={"crop": 1.0})}
)
_PIXELS = _way("pixels in 0..255", ZERO, LEVEL)
_CAFFE = _way("BGR less Caffe's mean", CAFFE_MEAN, LEVEL, "BGR")
_CIFAR = _way("CIFAR's mean and deviation", CIFAR_MEAN, CIFAR_STD)
_PRODUCERS = (
    ("ultralytics", _WHOLE_UNIT),
    ("caffe", _CAFFE),
    ("pytorch|mxnet|paddle", _IMAGENET),
    ("tf2onnx|keras|tensorflow", _MINUS_ONE),
)
"""What networks of an origin usually want."""
_OF_ANY_SIDE = (_WHOLE_UNIT, _CAFFE)
