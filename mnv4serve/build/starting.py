"""A catalogued checkpoint as weights to train on from, for pictures normalised another way."""

from collections.abc import Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from mnv4serve.catalog import Catalog, Preprocessing, Variant

STEM = "conv_stem.weight"
STEM_MEAN = "bn1.running_mean"
CLASSIFIER = ("classifier.weight", "classifier.bias")


def starting_weights(
    catalog: Catalog,
    zoo: str,
    variant: Variant,
    *,
    wanted: Preprocessing,
    classes: Sequence[str],
) -> bytes:
    """A variant's weights and statistics as one file that expects `wanted` mean and deviation.

    Its classifier is worth something for the same classes only; for others it is of no class, so
    that a fresh one stays. Raises CatalogError where the network is somebody else's.
    """
    entry = catalog.zoos[zoo]
    checkpoint = entry.checkpoint(variant.checkpoint)
    statistics = variant.statistics  # a ready-made network has none and is refused here
    state = load(catalog.read(checkpoint.weights)) | load(catalog.read(statistics))
    used = entry.preprocessing_of(variant.name)
    if tuple(classes) != tuple(label.id for label in entry.labels):
        state |= {key: state[key][:0].clone() for key in CLASSIFIER}
    return save(renormalised(state, used, wanted))


def renormalised(
    state: dict[str, Tensor], used: Preprocessing, wanted: Preprocessing
) -> dict[str, Tensor]:
    """Weights that answer to `wanted` pictures what they answered to `used` ones.

    Up to the border of the picture, where padding means another colour.
    """
    if (used.mean, used.std) == (wanted.mean, wanted.std):
        return state
    mean, std = torch.tensor(used.mean), torch.tensor(used.std)
    new_mean, new_std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    weights = state[STEM].float()
    shift = (weights.sum((2, 3)) * ((new_mean - mean) / std)).sum(1)
    stem = (weights * (new_std / std).view(1, 3, 1, 1)).to(state[STEM].dtype)
    statistics = (state[STEM_MEAN].float() - shift).to(state[STEM_MEAN].dtype)
    return {**state, STEM: stem, STEM_MEAN: statistics}
