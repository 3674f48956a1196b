"""Tests of views that can be made again."""

import numpy as np
import torch

from mnv4serve.train.views import VIEW_SETS, ViewSet, draw_order, draw_replica, render, true_targets

PLAIN = ViewSet(name="plain", smallest_crop=1, aspect=1)
MIXED = ViewSet(name="mixed", smallest_crop=1, aspect=1, mixed=True)
UPRIGHT = np.zeros(6, np.bool_)


def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_replica_is_a_function_of_seed_and_number() -> None:
    """Drawn again it is the same; another number or set is another view."""
    first, again = (draw_replica(VIEW_SETS["D1"], 6, seed=1, number=4) for _ in range(2))
    other = draw_replica(VIEW_SETS["D1"], 6, seed=1, number=5)
    rows = np.arange(6)

    views = [render(r, pictures(), rows, 32, UPRIGHT) for r in (first, again, other)]

    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_view_does_not_depend_on_the_rows_around_it() -> None:
    """The teacher and the student meet pictures in different orders."""
    replica = draw_replica(VIEW_SETS["D1"], 6, seed=0, number=0)

    together = render(replica, pictures(), np.arange(6), 32, UPRIGHT)
    alone = render(replica, pictures(), np.array([4]), 32, UPRIGHT[:1])

    torch.testing.assert_close(together[4:5], alone, rtol=0, atol=1e-5)


def test_mirrored_view_is_the_view_turned_round() -> None:
    """Everything else about it stays."""
    replica = draw_replica(VIEW_SETS["D1"], 6, seed=0, number=0)
    rows, source = np.arange(6), torch.nn.functional.avg_pool2d(pictures().float(), 5, 1, 2).byte()

    plain = render(replica, source, rows, 32, UPRIGHT)
    mirrored = render(replica, source, rows, 32, ~UPRIGHT)

    torch.testing.assert_close(mirrored, plain.flip(-1), rtol=0, atol=1e-4)


def test_blend_is_what_its_target_says() -> None:
    """Pixels and labels are mixed in the same shares, which span all of 0..1."""
    source = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    source[3:] = 255
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    rows = np.arange(6)

    for number in range(5):
        replica = draw_replica(MIXED, 6, seed=0, number=number)
        bright = render(replica, source, rows, 32, UPRIGHT).mean((1, 2, 3)) / 2 + 0.5
        targets = true_targets(replica, labels, 2, rows)
        torch.testing.assert_close(bright, targets[:, 1], rtol=0, atol=1e-4)
    shares = draw_replica(MIXED, 2000, seed=0, number=0).shares
    assert shares.min() < 0.05
    assert shares.max() > 0.95


def test_sets_are_met_in_different_orders() -> None:
    """A batch of two sets does not hold the same pictures twice."""
    first, second = (draw_order(VIEW_SETS[name], 100, seed=0, number=0) for name in ("D1", "D2"))

    assert sorted(first) == sorted(second) == list(range(100))
    assert (first == second).sum() < 10


def test_unmixed_targets_are_the_labels() -> None:
    """One class, all of it."""
    replica = draw_replica(PLAIN, 3, seed=0, number=0)

    targets = true_targets(replica, torch.tensor([2, 0, 1]), 3, np.array([0, 2]))

    assert targets.tolist() == [[0, 0, 1], [0, 1, 0]]
