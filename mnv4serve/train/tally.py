"""Losses and hits of an epoch, as a whole and set by set."""

from torch import Tensor, split

from mnv4serve.train.config import SetPoint
from mnv4serve.train.feed import Batch


class Tally:
    """Adds up steps; the averages are of the pictures seen so far."""

    def __init__(self) -> None:
        self.steps = 0
        self.last = 0.0
        self._loss_sum = 0.0
        self._sets: dict[str, tuple[int, float, int]] = {}

    @property
    def loss(self) -> float:
        return self._loss_sum / self.steps

    def add(self, loss: float, losses: Tensor, logits: Tensor, batch: Batch) -> None:
        """Count one step, and its pictures towards the sets that they come from."""
        self.steps += 1
        self.last = loss
        self._loss_sum += loss
        if not batch.parts:
            return
        hits = logits.argmax(1) == batch.targets.argmax(1)
        sizes = [size for _, size in batch.parts]
        parts = zip(batch.parts, split(losses, sizes), split(hits, sizes), strict=True)
        for (name, size), part, hit in parts:
            seen, loss_sum, hit_sum = self._sets.get(name, (0, 0.0, 0))
            self._sets[name] = (
                seen + size,
                loss_sum + part.sum().item(),
                hit_sum + int(hit.sum().item()),
            )

    def sets(self) -> dict[str, SetPoint]:
        """Averages of each set, in the order in which they first came."""
        return {
            name: SetPoint(loss=loss_sum / seen, accuracy=hits / seen)
            for name, (seen, loss_sum, hits) in self._sets.items()
        }
