"""What a run is expected to take, and what it really took."""

from dataclasses import dataclass
from typing import NamedTuple


class Estimate(NamedTuple):
    """The expected latency of one arm for one picture, stage by stage.

    A tuple, like every value that a single decision makes dozens of.
    """

    wait_ms: float
    decode_ms: float
    service_ms: float
    hop_ms: float
    """From dispatch to the slot and back."""
    reply_ms: float
    away_ms: float = 0.0
    """The part of the hop for which the slot is free: the way to another process."""
    switch_ms: float = 0.0
    """The part of the service that brings the arm's weights to the device."""

    @property
    def slot_ms(self) -> float:
        """How long a slot is taken."""
        return self.decode_ms + self.service_ms + self.hop_ms - self.away_ms

    @property
    def run_ms(self) -> float:
        """From dispatch until the answer is ready to be handed over."""
        return self.decode_ms + self.service_ms + self.hop_ms

    @property
    def total_ms(self) -> float:
        """From arrival until the reply is written."""
        return self.wait_ms + self.decode_ms + self.service_ms + self.hop_ms + self.reply_ms

    def after(self, wait_ms: float) -> "Estimate":
        """The same run after another wait."""
        return self if wait_ms == self.wait_ms else Estimate(wait_ms, *self[1:])

    def settled(self) -> "Estimate":
        """The same run where the arm's weights are on the device already."""
        return self._replace(service_ms=self.service_ms - self.switch_ms, switch_ms=0.0)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run really took, from dispatch on."""

    decode_ms: float
    """All its pictures together."""
    service_ms: float
    run_ms: float
    """Until the answers were ready to be handed over."""
