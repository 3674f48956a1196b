"""Capturing: stable names, exact folding, every kind of block."""

import numpy as np
import pytest
import torch
from torch import nn

from mnv4serve.arch.blocks import LayerScale
from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.arch.specs import Activation, Architecture, attention, conv, extra_dw, ffn, fused
from mnv4serve.backends.onnx import onnxruntime
from mnv4serve.build.export import float_model
from mnv4serve.build.graph import capture
from mnv4serve.build.verify import deviation, reference_logits

from .conftest import HALF

EVERY_BLOCK = Architecture(
    name="every_block",
    resolution=64,
    stem_channels=8,
    stages=(
        (fused(16, 3, expand=2, stride=2),),
        (extra_dw(16, 3, 5, stride=2), ffn(16)),
        (extra_dw(24, 3, 3, stride=2), attention(24, heads=2, head_dim=8, kv_stride=2)),
        (extra_dw(32, 3, 3, stride=2), attention(32, heads=4, head_dim=8)),
        (conv(40, 1),),
    ),
    activation=Activation.GELU,
    layer_scale=True,
)


def unsettled(model: MobileNetV4) -> MobileNetV4:
    """A model whose norms and scales all do something."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, LayerScale):
            nn.init.uniform_(module.gamma, 0.3, 0.6)
    return model.eval()


@pytest.mark.parametrize("architecture", ["conv_small_035", "every_block"])
def test_the_graph_computes_what_the_model_computes(architecture: str) -> None:
    """Folded and written as ONNX, a network with any block gives the reference's logits."""
    named = architecture == "every_block"
    model = unsettled(MobileNetV4(EVERY_BLOCK, 5) if named else create_model(architecture, 5))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    mean_std = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    preprocessing = HALF.model_copy(update=mean_std)

    session = onnxruntime().InferenceSession(float_model(capture(model, 64), preprocessing, 64))
    (logits,) = session.run(None, {"pixels": pixels})

    assert deviation(logits, reference_logits(model, pixels, preprocessing)) < 1e-4


def test_names_follow_the_modules_not_the_weights_or_the_size() -> None:
    """Two machines, seeds or resolutions give one tensor the same name."""
    small = [operator.name for operator in capture(create_model("conv_small_035", 5), 64)]
    large = [operator.name for operator in capture(create_model("conv_small_035", 9), 96)]

    assert small == large
    assert "blocks.2.1.pw_exp.act" in small
    assert "blocks.2.1.add" in small
    assert len(set(small)) == len(small)


def test_batch_norm_disappears() -> None:
    """A convolutional network becomes convolutions, activations, sums and the classifier."""
    kinds = {operator.kind for operator in capture(create_model("conv_small_035", 5), 64)}

    assert kinds == {"Conv", "Relu", "Add", "GlobalAveragePool", "Reshape", "Gemm"}


def test_an_unknown_module_is_refused() -> None:
    """A layer without an exported form stops the build instead of being dropped."""
    model = create_model("conv_small_035", 5)
    model.act = nn.Hardswish()

    with pytest.raises(NotImplementedError, match="act: Hardswish"):
        capture(model, 64)
