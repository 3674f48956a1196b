"""The batch sizes that a GPU executes: a batch is padded up to one of them.

A CUDA graph is captured for one shape, so a slot has a graph for each bucket and no other size.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS = (1, 2, 4, 8, 16, 32)

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Up to a bucket's number of pictures -> their logits, which are the caller's to keep."""


class OutOfMemory(Exception):  # no caller sees it: a smaller bucket is taken, or the arm is down
    """A bucket does not fit into the memory that the device has left."""


class Ladder:
    """One slot's buckets, opened from the smallest up until the memory is used up."""

    def __init__(self, open_bucket: Callable[[int], Run], sizes: Sequence[int] = BUCKETS) -> None:
        self._rungs: dict[int, Run] = {}
        for size in sizes:
            try:
                self._rungs[size] = open_bucket(size)
            except OutOfMemory:
                if not self._rungs:
                    raise
                break

    @property
    def sizes(self) -> tuple[int, ...]:
        """The buckets that there are, smallest first."""
        return tuple(self._rungs)

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits of any number of pictures, in as few runs as the buckets allow.

        Raises OutOfMemory where not even the smallest bucket runs.
        """
        parts = []
        while len(pixels):
            size = bucket_for(len(pixels), self.sizes)
            try:
                parts.append(self._rungs[size](pixels[:size]))
            except OutOfMemory:
                self._drop(size)
                continue
            pixels = pixels[size:]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Let go of the buckets and what they hold."""
        self._rungs.clear()

    def _drop(self, size: int) -> None:
        """Do without a bucket and all larger ones; the smallest one stays to be tried again."""
        if size == min(self._rungs):
            raise OutOfMemory
        for larger in [known for known in self._rungs if known >= size]:
            del self._rungs[larger]


def bucket_for(n: int, sizes: Sequence[int]) -> int:
    """The smallest bucket that holds `n` pictures, the largest one where none does."""
    return min((size for size in sizes if size >= n), default=max(sizes))
