"""Networks that take batches of one size only, for callers with any number of pictures."""

import numpy as np
from numpy.typing import NDArray

from mnv4serve.backends import Backend


class FixedBatch:
    """Splits pictures into batches of that size and fills the last one up."""

    def __init__(self, backend: Backend, size: int) -> None:
        self._backend = backend
        self._size = size

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        """Logits [N, labels] of uint8 RGB pictures [N, H, W, 3]."""
        n = len(pixels)
        if n == self._size:
            return self._backend.infer(pixels, slot)
        missing = -n % self._size
        filled = np.concatenate([pixels, np.repeat(pixels[:1], missing, axis=0)])
        parts = [
            self._backend.infer(filled[start : start + self._size], slot)
            for start in range(0, len(filled), self._size)
        ]
        return np.concatenate(parts)[:n]

    def close(self) -> None:
        """Free the backend behind."""
        self._backend.close()
