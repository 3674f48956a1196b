"""Budget mixtures: shares of requests with budgets drawn evenly from ranges."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mnv4serve.errors import BadConfig

_NUMBER = r"\d*\.?\d+(?:e[+-]?\d+)?"
_PART = re.compile(rf"(?P<share>{_NUMBER})@(?P<low>{_NUMBER})(?:-(?P<high>{_NUMBER}))?")


@dataclass(frozen=True, slots=True)
class Range:
    """A share of the requests and the budgets they have."""

    share: float
    low_ms: float
    high_ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and self.share > 0.0):
            raise BadConfig(f"a share of {self.share:g} of the budgets: it must be above 0")
        if not 0.0 < self.low_ms <= self.high_ms < math.inf:
            raise BadConfig(
                f"budgets from {self.low_ms:g} to {self.high_ms:g} ms: "
                "both must be above 0 and the first not above the second"
            )


@dataclass(frozen=True, slots=True)
class Mixture:
    """Ranges of budgets; their shares are taken relative to their sum."""

    ranges: tuple[Range, ...]

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """`n` budgets in milliseconds."""
        shares = np.array([part.share for part in self.ranges])
        which = rng.choice(len(self.ranges), size=n, p=shares / shares.sum())
        low_ms = np.array([part.low_ms for part in self.ranges])[which]
        high_ms = np.array([part.high_ms for part in self.ranges])[which]
        return rng.uniform(low_ms, high_ms)

    @override
    def __str__(self) -> str:
        return ",".join(f"{r.share:g}@{r.low_ms:g}-{r.high_ms:g}" for r in self.ranges)


PRESETS: Mapping[str, Mixture] = {
    "tight": Mixture((Range(1.0, 3.0, 8.0),)),
    "mixed": Mixture((Range(0.3, 3.0, 8.0), Range(0.4, 10.0, 30.0), Range(0.3, 50.0, 200.0))),
    "loose": Mixture((Range(1.0, 50.0, 200.0),)),
    "equal": Mixture((Range(1.0, 36.0, 36.0),)),
}
MIXED = PRESETS["mixed"]


def parse_budgets(text: str) -> Mixture:
    """A preset's name or `share@low-high,...` in milliseconds; raises BadConfig."""
    if text in PRESETS:
        return PRESETS[text]
    return Mixture(tuple(_range(part.strip()) for part in text.split(",")))


def _range(part: str) -> Range:
    found = _PART.fullmatch(part)
    if found is None:
        names = ", ".join(PRESETS)
        raise BadConfig(
            f"budgets {part!r}: say {names}, or share@low-high in ms, for example 0.3@3-8,0.7@36"
        )
    low_ms = float(found["low"])
    return Range(float(found["share"]), low_ms, float(found["high"] or low_ms))
