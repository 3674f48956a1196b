"""What decoding a picture is expected to cost, from what its header tells."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Picture
from mnv4serve.router.learning import Drift


def dct_eighths(picture: Picture, resolution: int) -> int:
    """Eighths of its size at which a JPEG decodes without losing detail at the resolution."""
    side = min(picture.width, picture.height)
    return min(8, 8 * (resolution - 1) // side + 1)


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Bytes to pixels at the resolution of an arm, as fitted by the profiler on this host."""

    base_ms: float
    per_megabyte_ms: float
    per_megapixel_ms: float
    """Of the pixels that a JPEG decodes to after scaling in the DCT domain."""
    per_output_megapixel_ms: float
    other_per_megapixel_ms: float
    """Of all pixels, for formats that cannot be scaled while decoding."""

    def expect(self, picture: Picture, resolution: int) -> float:
        base, megabytes, scaled, output, other = decode_features(picture, resolution)
        return (
            self.base_ms * base
            + self.per_megabyte_ms * megabytes
            + self.per_megapixel_ms * scaled
            + self.per_output_megapixel_ms * output
            + self.other_per_megapixel_ms * other
        )


def decode_features(picture: Picture, resolution: int) -> tuple[float, float, float, float, float]:
    """What DecodeCost's coefficients are multiplied with, in their order; to fit them against."""
    scaled = other = 0.0
    if picture.format == "JPEG":
        scaled = picture.pixels * dct_eighths(picture, resolution) ** 2 / 64e6
    else:
        other = picture.pixels / 1e6
    return 1.0, picture.n_bytes / 1e6, scaled, resolution * resolution / 1e6, other


class Decoding:
    """The cost as fitted, corrected for each format by what its pictures really took."""

    def __init__(self, cost: DecodeCost) -> None:
        self._cost = cost
        self._drift: dict[str, Drift] = {}
        self._picture: Picture | None = None
        self._profiled: dict[int, float] = {}

    def expect_ms(self, picture: Picture, resolution: int, *, slowdown: float) -> float:
        """As of now, where the whole device is slower than when it was profiled."""
        decode_ms = self._profiled_ms(picture, resolution) * slowdown
        drift = self._drift.get(picture.format)
        return decode_ms if drift is None else decode_ms * drift.factor

    def observe(
        self, pictures: Sequence[Picture], resolution: int, actual_ms: float, *, slowdown: float
    ) -> None:
        """Learn from pictures decoded together; several formats say nothing of any of them."""
        formats = {picture.format for picture in pictures}
        if len(formats) > 1:
            return
        profiled_ms = sum(self._profiled_ms(picture, resolution) for picture in pictures)
        drift = self._drift.setdefault(formats.pop(), Drift(gain=0.05))
        drift.follow(actual_ms / max(profiled_ms * slowdown, 1e-6))

    def fade(self, share: float) -> None:
        """Give up a share of what was learnt."""
        for drift in self._drift.values():
            drift.fade(share)

    def _profiled_ms(self, picture: Picture, resolution: int) -> float:
        """Arms share resolutions, and one picture is asked about many times."""
        if picture is not self._picture:
            self._picture, self._profiled = picture, {}
        profiled_ms = self._profiled.get(resolution)
        if profiled_ms is None:
            profiled_ms = self._cost.expect(picture, resolution)
            self._profiled[resolution] = profiled_ms
        return profiled_ms
