"""Tests of fine-tuning for int8."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.build.export import PIXELS
from mnv4serve.build.graph import capture
from mnv4serve.build.quantize import quantized_model
from mnv4serve.build.ranges import Ranges, calibrate, quantised_tensors
from mnv4serve.errors import TrainError
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.data import PREPROCESSING
from mnv4serve.train.evaluate import normalised, reestimate_batch_norm
from mnv4serve.train.feed import Batch, LabelledFeed
from mnv4serve.train.rounding import FOLDED, fine_tune_rounded, rounded, spots
from mnv4serve.train.run import training_pictures

RESOLUTION = 64


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.fixture
def model() -> MobileNetV4:
    torch.manual_seed(0)
    model = create_model("conv_small_035", 3)
    torch.nn.init.normal_(model.classifier.weight)
    reestimate_batch_norm(model, pictures(), RESOLUTION)
    return model.eval()


@pytest.fixture
def ranges(model: MobileNetV4) -> Ranges:
    pixels = pictures().permute(0, 2, 3, 1).numpy()
    return calibrate(capture(model, RESOLUTION), PREPROCESSING, RESOLUTION, [pixels])


@pytest.mark.parametrize("architecture", ["conv_small", "conv_medium", "hybrid_medium"])
def test_every_tensor_with_a_grid_is_rounded(architecture: str) -> None:
    """What training rounds is what the served int8 form rounds, name by name."""
    model = create_model(architecture, 3)

    names = quantised_tensors(capture(model, 96))

    assert set(spots(model)) == {name for name in names if not name.endswith(FOLDED)}


def test_rounded_network_computes_what_int8_computes(model: MobileNetV4, ranges: Ranges) -> None:
    """Layer by layer the same steps of the same grids, but where a value falls between two.

    Only the first layers: each such value moves others, and what moves grows from layer to layer.
    """
    name = "blocks.0.1.act"
    built = quantized_model(capture(model, RESOLUTION), PREPROCESSING, RESOLUTION, ranges)
    exposed = onnx.load_model_from_string(built)
    exposed.graph.output.append(onnx.helper.make_empty_tensor_value_info(f"{name}.dequantised"))
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pixels = pictures().permute(0, 2, 3, 1).numpy()
    served = torch.from_numpy(session.run([f"{name}.dequantised"], {PIXELS: pixels})[0])
    seen: list[torch.Tensor] = []

    with torch.no_grad():
        plain = model(normalised(pictures()))
        with rounded(model, ranges):
            block = model.get_submodule("blocks.0.1")
            block.register_forward_hook(lambda *call: seen.append(call[2]))
            model(normalised(pictures()))
        again = model(normalised(pictures()))

    step = ranges[name][1] / 255
    assert ((seen[0] - served).abs() < step / 2).float().mean() > 0.9
    assert (seen[1] - served).abs().mean() > 4 * (seen[0] - served).abs().mean()
    torch.testing.assert_close(again, plain)


def test_fine_tuning_brings_int8_nearer_to_float(model: MobileNetV4, ranges: Ranges) -> None:
    """The rounded network's answers move towards what the float network said."""

    class Feed:
        steps = 6

        def prepare(self, resolutions: object) -> None:
            """One resolution is all there is."""

        def batches(self, epoch: int, random: np.random.Generator) -> Iterator[Batch]:
            del epoch, random
            for _ in range(self.steps):
                yield Batch(normalised(pictures()), torch.zeros(16, 3))

    coarse = {name: (4 * low, 4 * high) for name, (low, high) in ranges.items()}
    images = normalised(pictures())
    with torch.no_grad():
        target = model(images).softmax(1)
        with rounded(model, coarse):
            before = (model(images).softmax(1) - target).abs().mean()
    seen: list[tuple[int, int]] = []

    fine_tune_rounded(
        model, coarse, Feed(), epochs=5, learning_rate=1e-3, advance=lambda *s: seen.append(s)
    )

    with torch.no_grad(), rounded(model, coarse):
        after = (model(images).softmax(1) - target).abs().mean()
    assert after < 0.7 * before
    assert seen[-1] == (30, 30)
    assert "classifier.weight" in model.state_dict()


def test_statistics_stay(model: MobileNetV4, ranges: Ranges, config: TrainConfig) -> None:
    """Batch norm keeps the resolution's statistics, whatever the feed shows."""
    feed = LabelledFeed(config, training_pictures(config))
    feed.prepare([RESOLUTION])
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}

    fine_tune_rounded(model, ranges, feed, epochs=1)

    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_ranges_of_another_network_are_refused(model: MobileNetV4) -> None:
    """One missing tensor is enough."""
    with (
        pytest.raises(TrainError, match="ranges are of another network: they lack act"),
        rounded(model, {}),
    ):
        pass
