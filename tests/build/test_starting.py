"""Weights that are trained on with pictures normalised another way."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch.nn.functional import batch_norm, conv2d

from mnv4serve.build.starting import STEM, STEM_MEAN, renormalised, starting_weights
from mnv4serve.catalog import Preprocessing, load_catalog
from mnv4serve.errors import CatalogError

HALF = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IMAGENET = Preprocessing(resize="shortest", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def stem(state: dict[str, torch.Tensor], pixels: torch.Tensor, used: Preprocessing) -> torch.Tensor:
    """What the first layer makes of pixels in [0, 1], away from the border."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (used.mean, used.std))
    features = conv2d((pixels - mean) / std, state[STEM], stride=2)
    return batch_norm(features, state[STEM_MEAN], torch.ones(8), eps=1e-5)


def test_the_first_layer_answers_as_before() -> None:
    """The same picture gives the same features under the new mean and deviation."""
    torch.manual_seed(0)
    state = {STEM: torch.randn(8, 3, 3, 3), STEM_MEAN: torch.randn(8), "other": torch.ones(1)}
    pixels = torch.rand(2, 3, 33, 33)

    moved = renormalised(state, IMAGENET, HALF)

    assert not torch.allclose(moved[STEM], state[STEM])
    torch.testing.assert_close(
        stem(moved, pixels, HALF), stem(state, pixels, IMAGENET), rtol=1e-4, atol=1e-4
    )
    assert moved["other"] is state["other"]


def test_weights_for_the_same_pictures_stay() -> None:
    """Nothing is rounded where nothing changes."""
    state = {STEM: torch.randn(8, 3, 3, 3).half(), STEM_MEAN: torch.randn(8).half()}

    assert renormalised(state, HALF, HALF) is state


@pytest.mark.parametrize(
    ("classes", "rows"), [(("red", "green", "blue"), 3), (("rose", "sunflower", "violet"), 0)]
)
def test_a_classifier_of_other_classes_is_no_start(
    tiny_models: Path, classes: tuple[str, ...], rows: int
) -> None:
    """As many classes are not the same ones."""
    catalog = load_catalog(tiny_models)
    name, zoo = catalog.zoo()

    content = starting_weights(catalog, name, zoo.variants[0], wanted=HALF, classes=classes)

    assert len(load(content)["classifier.weight"]) == rows
    assert len(load(content)["classifier.bias"]) == rows


def test_a_ready_made_network_is_no_start(tiny_models: Path) -> None:
    """Somebody else's file is refused by name, before anybody tries to read it as weights."""
    catalog = load_catalog(tiny_models)
    name, zoo = catalog.zoo()
    theirs = zoo.variants[0].model_copy(update={"batch_norm": None})

    with pytest.raises(CatalogError, match=f"{theirs.name} is a ready-made network"):
        starting_weights(catalog, name, theirs, wanted=HALF, classes=())
