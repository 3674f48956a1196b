"""Behaviour of mnv4serve.backends.cuda_buckets."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mnv4serve.backends.cuda_buckets import BUCKETS, Ladder, OutOfMemory, Run, bucket_for


class Device:
    """Buckets that answer each picture with its first value; those in `full` have no memory."""

    def __init__(self) -> None:
        self.full: set[int] = set()
        self.runs: list[tuple[int, int]] = []

    def open(self, size: int) -> Run:
        self._check(size)

        def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            self._check(size)
            self.runs.append((size, len(pixels)))
            return pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)

        return run

    def _check(self, size: int) -> None:
        if size in self.full:
            raise OutOfMemory


def numbered(n: int) -> NDArray[np.uint8]:
    return np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1).repeat(3, axis=3)


@pytest.mark.parametrize(
    ("n", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (16, 16), (17, 32), (32, 32), (33, 32)]
)
def test_a_batch_takes_the_smallest_bucket_that_holds_it(n: int, size: int) -> None:
    """And the largest there is where none does."""
    assert bucket_for(n, BUCKETS) == size


@pytest.mark.parametrize("n", [1, 3, 31, 32, 33, 70])
def test_every_picture_is_answered_in_order(n: int) -> None:
    """Whatever the number, nothing of the padding comes back."""
    ladder = Ladder(Device().open)

    assert ladder.infer(numbered(n)).ravel().tolist() == list(range(n))


def test_more_than_the_largest_bucket_is_divided() -> None:
    """Into full ones first and the smallest that holds the rest."""
    device = Device()

    Ladder(device.open).infer(numbered(70))

    assert device.runs == [(32, 32), (32, 32), (8, 6)]


def test_what_does_not_fit_at_the_start_is_done_without() -> None:
    """Opening stops at the first bucket that memory does not hold."""
    device = Device()
    device.full = {8}

    ladder = Ladder(device.open)

    assert ladder.sizes == (1, 2, 4)
    assert ladder.infer(numbered(9)).ravel().tolist() == list(range(9))
    assert device.runs == [(4, 4), (4, 4), (1, 1)]


def test_without_memory_for_one_picture_there_is_no_ladder() -> None:
    """Then nothing can be served."""
    device = Device()
    device.full = {1}

    with pytest.raises(OutOfMemory):
        Ladder(device.open)


def test_memory_that_runs_out_later_costs_the_large_buckets() -> None:
    """The batch is answered with smaller ones, and the large ones are not tried again."""
    device = Device()
    ladder = Ladder(device.open)
    device.full = {16, 32}

    first = ladder.infer(numbered(20))
    device.full = set()
    ladder.infer(numbered(20))

    assert first.ravel().tolist() == list(range(20))
    assert ladder.sizes == (1, 2, 4, 8)
    assert device.runs == 2 * [(8, 8), (8, 8), (4, 4)]


def test_the_smallest_bucket_is_kept_to_be_tried_again() -> None:
    """Without memory for it a run fails; once there is some, it works."""
    device = Device()
    ladder = Ladder(device.open)
    device.full = set(BUCKETS)
    with pytest.raises(OutOfMemory):
        ladder.infer(numbered(3))

    device.full = set()

    assert ladder.infer(numbered(3)).ravel().tolist() == [0, 1, 2]
    assert ladder.sizes == (1,)
