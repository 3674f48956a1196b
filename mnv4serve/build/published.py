"""timm's published ImageNet-1k checkpoints: where they lie, how they want pictures, their figures.

Weights and figures are the work of timm's author, under Apache-2.0; nothing here was measured by
us.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from mnv4serve.catalog import Preprocessing
from mnv4serve.errors import BadConfig

ZOO = "imagenet1k"
TITLE = "ImageNet-1k: the thousand classes of the published MobileNetV4 checkpoints"
DATA = "ImageNet-1k val"
SOURCE = "timm, results/results-imagenet.csv at commit aa4b5850"
DATE = "2024-06"
"""When the first of these checkpoints were published."""
PREPROCESSING = Preprocessing(
    resize="shortest",
    crop=0.95,
    interpolation="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""What most checkpoints want; the others differ in crop, or in mean and deviation."""
HALF = (0.5, 0.5, 0.5)
NORMALISED_WITH_HALF = ("conv_small_050.e3000_r224_in1k", "conv_small.e3600_r256_in1k")
"""Checkpoints that want mean and deviation 0.5 instead of ImageNet's own."""
PAPER = (
    "conv_small@224",
    "conv_medium@256",
    "hybrid_medium@256",
    "conv_large@384",
    "hybrid_large@384",
)
"""The paper's five models at the resolutions that the paper gives."""

Figures = tuple[tuple[int, float, float], ...]
"""Resolution, crop and top-1 accuracy."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One published checkpoint."""

    architecture: str
    tag: str
    megabytes: int
    """About, at four bytes a parameter."""
    figures: Figures

    @property
    def name(self) -> str:
        return f"{self.architecture}.{self.tag}"

    @property
    def repository(self) -> str:
        return f"timm/mobilenetv4_{self.name}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A variant that `pull` can add to the zoo."""

    variant: str
    tag: Tag
    resolution: int
    crop: float
    accuracy: float

    @property
    def preprocessing(self) -> Preprocessing:
        update: dict[str, object] = {"crop": self.crop}
        if self.tag.name in NORMALISED_WITH_HALF:
            update |= {"mean": HALF, "std": HALF}
        return PREPROCESSING.model_copy(update=update)


TAGS = (
    Tag("conv_small_050", "e3000_r224_in1k", 9, ((224, 0.875, 0.64778), (256, 0.95, 0.65826))),
    Tag("conv_small", "e1200_r224_in1k", 15, ((224, 0.875, 0.7345), (256, 0.95, 0.74282))),
    Tag("conv_small", "e2400_r224_in1k", 15, ((224, 0.875, 0.73756), (256, 0.95, 0.74644))),
    Tag("conv_small", "e3600_r256_in1k", 15, ((256, 0.95, 0.74534), (320, 1.0, 0.75616))),
    Tag("conv_medium", "e500_r224_in1k", 39, ((224, 0.95, 0.79092), (256, 1.0, 0.79836))),
    Tag("conv_medium", "e500_r256_in1k", 39, ((256, 0.95, 0.79916), (320, 1.0, 0.8089))),
    Tag("conv_medium", "e250_r384_in12k_ft_in1k", 39, ((384, 0.95, 0.82776),)),
    Tag("hybrid_medium", "e500_r224_in1k", 44, ((224, 0.95, 0.80432), (256, 1.0, 0.81284))),
    Tag("hybrid_medium", "ix_e550_r256_in1k", 44, ((256, 0.95, 0.81478), (320, 1.0, 0.825))),
    Tag("hybrid_medium", "e200_r256_in12k_ft_in1k", 44, ((256, 0.95, 0.8236), (320, 1.0, 0.82998))),
    Tag("hybrid_medium", "ix_e550_r384_in1k", 44, ((384, 0.95, 0.82952), (448, 1.0, 0.8339))),
    Tag("conv_large", "e500_r256_in1k", 130, ((256, 0.95, 0.81864), (320, 1.0, 0.82672))),
    Tag("conv_large", "e600_r384_in1k", 130, ((384, 0.95, 0.82974), (448, 1.0, 0.83418))),
    Tag("hybrid_large", "e600_r384_in1k", 151, ((384, 0.95, 0.83826), (448, 1.0, 0.84264))),
    Tag("hybrid_large", "ix_e600_r384_in1k", 151, ((384, 0.95, 0.83996), (448, 1.0, 0.84352))),
)  # fmt: skip


def offers() -> tuple[Offer, ...]:
    """Every variant there is.

    The most accurate one of an architecture at a resolution has the plain name, the others the
    name of their checkpoint: `conv_small@256`, `conv_small.e3600_r256_in1k@256`.
    """
    found = sorted(_all(), key=lambda offer: (offer.tag.architecture, offer.resolution))
    groups = groupby(found, key=lambda offer: (offer.tag.architecture, offer.resolution))
    return tuple(offer for _, group in groups for offer in _named(list(group)))


def chosen(names: Sequence[str]) -> tuple[Offer, ...]:
    """The offers of some variants or architectures; the paper's five models where none is named.

    Raises BadConfig naming what there is.
    """
    known = offers()
    picked = []
    for name in names or PAPER:
        matches = [
            offer
            for offer in known
            if name == offer.variant or offer.variant.startswith(f"{name}@")
        ]
        if not matches:
            plain = ", ".join(offer.variant for offer in known if "." not in offer.variant)
            raise BadConfig(f"no published variant {name!r}; there are {plain}")
        picked += matches
    return tuple(dict.fromkeys(picked))


def _all() -> Iterator[Offer]:
    for tag in TAGS:
        for resolution, crop, accuracy in tag.figures:
            yield Offer(f"{tag.name}@{resolution}", tag, resolution, crop, accuracy)


def _named(rivals: list[Offer]) -> Iterator[Offer]:
    best = max(rivals, key=lambda offer: offer.accuracy)
    plain = f"{best.tag.architecture}@{best.resolution}"
    yield Offer(plain, best.tag, best.resolution, best.crop, best.accuracy)
    yield from (rival for rival in rivals if rival is not best)
