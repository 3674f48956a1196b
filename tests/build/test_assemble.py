"""Weights become a network only of the architecture that their checkpoint names."""

import pytest

from mnv4serve.build.assemble import reference_model
from mnv4serve.errors import WeightsMismatch

from .conftest import Released


def test_weights_of_another_architecture_are_named(released: Released) -> None:
    """The sentence says which variant is not what, beside the first tensors that do not fit."""
    variant = released.zoo.variants[0]
    changed = [
        entry.model_copy(update={"architecture": "conv_medium"})
        for entry in released.zoo.checkpoints
    ]
    zoo = released.zoo.model_copy(update={"checkpoints": tuple(changed)})

    with pytest.raises(WeightsMismatch, match=rf"^{variant.name} is no conv_medium: the weights"):
        reference_model(released.catalog, zoo, variant)
