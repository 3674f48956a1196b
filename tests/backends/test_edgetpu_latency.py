"""The latency model of the Edge TPU beside the latencies that were published."""

from dataclasses import astuple, dataclass, replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnv4serve.backends.edgetpu_latency import (
    CORAL,
    LINKS,
    Chip,
    Link,
    Work,
    predicted_ms,
    upload_ms,
)
from mnv4serve.backends.litert_file import read

HOSTS = ("usb3", "pcie", "pi4", "usb2")


@dataclass(frozen=True)
class Row:
    """A network as counted from its definition, and its published milliseconds per host."""

    side: int
    dense_gmacs: float
    depthwise_gmacs: float
    layers: int
    weight_mb: float
    published_ms: tuple[float | None, ...]

    @property
    def work(self) -> Work:
        return Work(
            input_bytes=3 * self.side**2,
            dense_macs=round(self.dense_gmacs * 1e9),
            depthwise_macs=round(self.depthwise_gmacs * 1e9),
            layers=self.layers,
            weight_bytes=round(self.weight_mb * 1e6),
        )


# coral.ai/docs/edgetpu/benchmarks and pycoral's benchmarks/reference.
PUBLISHED = {
    "mobilenet_v1": Row(224, 0.5515, 0.0174, 28, 4.23, (2.4, 2.4, 4.20, 9.0)),
    "mobilenet_v2": Row(224, 0.280, 0.0207, 53, 3.5, (2.6, 2.6, 4.55, 10.61)),
    "inception_v1": Row(224, 1.50, 0.0, 58, 6.6, (3.4, 4.1, 6.21, 18.94)),
    "inception_v4": Row(299, 12.27, 0.0, 150, 42.7, (85, 102, 141.2, 1054.9)),
    "efficientnet_s": Row(224, 1.77, 0.04, 54, 5.44, (5.1, 5.5, None, None)),
    "efficientnet_m": Row(240, 2.98, 0.06, 70, 6.9, (8.7, 10.6, None, None)),
    "efficientnet_l": Row(300, 7.85, 0.15, 100, 10.59, (25.3, None, None, None)),
    "resnet_50": Row(299, 7.3, 0.0, 54, 25.5, (49, 56, None, None)),
    "resnet_152": Row(299, 20.5, 0.0, 155, 60.2, (128, 151, None, None)),
    "vgg_16": Row(224, 15.47, 0.0, 16, 138.4, (296, 343, None, None)),
    "vgg_19": Row(224, 19.63, 0.0, 19, 143.7, (308, 357, None, None)),
}


def errors(chip: Chip, links: dict[str, Link]) -> NDArray[np.float64]:
    """Logarithms of predicted over published."""
    return np.array(
        [
            log(predicted_ms(row.work, links[host], chip=chip) / published)
            for row in PUBLISHED.values()
            for host, published in zip(HOSTS, row.published_ms, strict=True)
            if published is not None
        ]
    )


def spread(found: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(found).mean()))


def test_published_latencies_are_met_within_a_tenth() -> None:
    """All 29 points: 10 % on average, no one more than a third off."""
    found = errors(CORAL, LINKS)

    assert len(found) == 29
    assert spread(found) < 0.10
    assert np.abs(found).max() < 0.33


def test_a_refit_confirms_the_constants() -> None:
    """Fitting all of them anew moves those that the data fix by less than a fifth."""
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    start = np.log([*astuple(CORAL), *(value for host in HOSTS for value in astuple(LINKS[host]))])

    def unpacked(logs: NDArray[np.float64]) -> tuple[Chip, dict[str, Link]]:
        values = np.exp(logs)
        links = {host: Link(*values[5 + 2 * n : 7 + 2 * n]) for n, host in enumerate(HOSTS)}
        return Chip(*values[:5]), links

    fit = optimize.least_squares(lambda logs: errors(*unpacked(logs)), start, max_nfev=60)

    chip, links = unpacked(fit.x)
    assert spread(errors(chip, links)) <= spread(errors(CORAL, LINKS))
    assert chip.dense_tmacs_per_s == pytest.approx(CORAL.dense_tmacs_per_s, rel=0.2)
    assert chip.depthwise_tmacs_per_s == pytest.approx(CORAL.depthwise_tmacs_per_s, rel=0.2)
    for host in HOSTS:
        assert links[host].megabytes_per_s == pytest.approx(LINKS[host].megabytes_per_s, rel=0.2)


def test_half_the_clock_doubles_computing_alone() -> None:
    """What the link takes stays."""
    work = PUBLISHED["mobilenet_v1"].work
    still = replace(work, dense_macs=0, depthwise_macs=0)
    free = replace(CORAL, layer_ms=0.0)
    link_ms = predicted_ms(still, LINKS["usb3"], chip=free)
    full_ms = predicted_ms(work, LINKS["usb3"], chip=free)

    half_ms = predicted_ms(work, LINKS["usb3"], chip=free, clock_mhz=250.0)

    assert half_ms - link_ms == pytest.approx(2 * (full_ms - link_ms))


def test_weights_that_do_not_fit_are_paid_for_every_picture() -> None:
    """Twice the chip's memory costs the link's time for the other half, less what it hides."""
    small = replace(PUBLISHED["mobilenet_v1"].work, weight_bytes=7_000_000)
    large = replace(small, weight_bytes=14_000_000)

    more_ms = predicted_ms(large, LINKS["usb2"]) - predicted_ms(small, LINKS["usb2"])

    assert 0.9 * 200 < more_ms < 200
    assert upload_ms(large, LINKS["usb2"]) == upload_ms(small, LINKS["usb2"])


def test_work_is_counted_in_the_file(int8_network: Path) -> None:
    """Multiplications by hand: 8 filters of 27 weights at 15x15 places, and the classifier."""
    work = Work.of(read(int8_network.read_bytes()))

    assert work.dense_macs == 15 * 15 * 8 * 27 + 8 * 5
    assert work.depthwise_macs == 0
    assert work.layers == 2
    assert work.input_bytes == 32 * 32 * 3
