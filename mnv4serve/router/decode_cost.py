"""What decoding a picture is expected to cost, from what its header tells."""

from dataclasses import dataclass

from mnv4serve.domain import Picture


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
