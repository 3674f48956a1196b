"""What decoding a picture is expected to cost, from what its header tells."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.domain import Picture
from mnv4serve.router.learning import Drift

_SLOW_EIGHTHS = (3, 5, 6, 7)
"""libjpeg-turbo scales by halves with vector instructions, and otherwise without."""


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
    whole_per_megapixel_ms: float = 0.0
    """Of all pixels of a JPEG: each block has to be read, whatever becomes of it."""
    slow_per_megapixel_ms: float = 0.0
    """More for each scaled pixel where libjpeg-turbo has no vector code for the scale."""

    def expect(self, picture: Picture, resolution: int) -> float:
        base, megabytes, scaled, output, other, whole, slow = decode_features(picture, resolution)
        return (
            self.base_ms * base
            + self.per_megabyte_ms * megabytes
            + self.per_megapixel_ms * scaled
            + self.per_output_megapixel_ms * output
            + self.other_per_megapixel_ms * other
            + self.whole_per_megapixel_ms * whole
            + self.slow_per_megapixel_ms * slow
        )


def decode_features(picture: Picture, resolution: int) -> tuple[float, ...]:
    """What DecodeCost's coefficients are multiplied with, in their order; to fit them against."""
    megabytes, output = picture.n_bytes / 1e6, resolution * resolution / 1e6
    whole = picture.pixels / 1e6
    if picture.format != "JPEG":
        return 1.0, megabytes, 0.0, output, whole, 0.0, 0.0
    eighths = dct_eighths(picture, resolution)
    scaled = whole * eighths * eighths / 64.0
    return 1.0, megabytes, scaled, output, 0.0, whole, scaled if eighths in _SLOW_EIGHTHS else 0.0


_Way = tuple[str, int]
"""What decides which code decodes a picture: its format and, of a JPEG, the scale in eighths."""


class Decoding:
    """The cost as fitted, corrected by what pictures of a format, at a scale, really took."""

    def __init__(self, cost: DecodeCost) -> None:
        self._cost = cost
        self._drift: dict[_Way, Drift] = {}
        self._picture: Picture | None = None
        self._profiled: dict[int, tuple[float, _Way]] = {}

    def expect_ms(self, picture: Picture, resolution: int, *, slowdown: float) -> float:
        """As of now, where the whole device is slower than when it was profiled."""
        profiled_ms, way = self._as_profiled(picture, resolution)
        drift = self._drift.get(way)
        return profiled_ms * slowdown * (1.0 if drift is None else drift.factor)

    def observe(
        self, pictures: Sequence[Picture], resolution: int, actual_ms: float, *, slowdown: float
    ) -> None:
        """Learn from pictures decoded together; where their ways differ, nothing of any of them."""
        parts = [self._as_profiled(picture, resolution) for picture in pictures]
        ways = {way for _, way in parts}
        if len(ways) > 1:
            return
        profiled_ms = sum(part_ms for part_ms, _ in parts)
        drift = self._drift.setdefault(ways.pop(), Drift(gain=0.05, believed=1))
        drift.follow(actual_ms / max(profiled_ms * slowdown, 1e-6))

    def fade(self, share: float) -> None:
        """Give up a share of what was learnt."""
        for drift in self._drift.values():
            drift.fade(share)

    def _as_profiled(self, picture: Picture, resolution: int) -> tuple[float, _Way]:
        """Arms share resolutions, and one picture is asked about many times."""
        if picture is not self._picture:
            self._picture, self._profiled = picture, {}
        found = self._profiled.get(resolution)
        if found is None:
            eighths = dct_eighths(picture, resolution) if picture.format == "JPEG" else 8
            found = self._cost.expect(picture, resolution), (picture.format, eighths)
            self._profiled[resolution] = found
        return found
