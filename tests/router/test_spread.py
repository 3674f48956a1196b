"""Several routers that send to the same pools and know equally little of each other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mnv4serve.domain import Reason
from mnv4serve.router.estimate import Estimate
from mnv4serve.router.planner import Pool
from mnv4serve.router.shared import SharedLedger
from mnv4serve.router.spread import Rival, spread
from tests.router.builders import ARMS, SERVICE_MS, admitted, arms_of, pool, request

ROUTERS = 8
REQUESTS = 200


def shared(router: int, number: int, *, slower: float = 1.0, accuracy: float = 0.9) -> Pool:
    """How one router sees a pool of one arm that all of them send to."""
    seen = pool(arms_of(accuracy, device=f"far-{number}"), (9.0 * slower,))
    ledger = SharedLedger(slots=1, max_queue=64, salt=1000 * router + number)
    return replace(seen, ledger=ledger)


def choices(routers: Sequence[Sequence[Pool]], *, id_: int) -> Counter[str]:
    """Where each of them sends a request, each with the same number."""
    return Counter(admitted(list(pools), request(100.0, id_=id_)).arm.device for pools in routers)


@pytest.mark.parametrize("n_pools", [2, 3])
def test_routers_with_the_same_old_news_do_not_all_choose_one_pool(n_pools: int) -> None:
    """Of pools that differ by a twentieth each gets its part of what many routers send at once."""
    routers = [
        [shared(router, number, slower=1.0 + 0.025 * number) for number in range(n_pools)]
        for router in range(ROUTERS)
    ]
    for pools in routers:
        for seen in pools:
            assert isinstance(seen.ledger, SharedLedger)
            seen.ledger.heard("replica", 0.0, now_ms=-50.0)

    sent = [choices(routers, id_=id_) for id_ in range(REQUESTS)]

    together = sum(max(counts.values()) == ROUTERS for counts in sent)
    assert together <= 0.05 * REQUESTS
    parts = sum(sent, Counter())
    fair = ROUTERS * REQUESTS / n_pools
    assert all(0.8 * fair < part < 1.2 * fair for part in parts.values())


def test_two_routers_with_the_same_numbers_part_ways_about_half_the_time() -> None:
    """Request numbers begin at nought everywhere: what differs is each router's own draw."""
    routers = [[shared(router, number) for number in range(2)] for router in range(2)]

    apart = sum(len(choices(routers, id_=id_)) == 2 for id_ in range(REQUESTS))

    assert 0.4 * REQUESTS < apart < 0.6 * REQUESTS


def test_what_will_be_late_is_spread_as_well() -> None:
    """Under overload, where no pool is on time, the same holds for the work behind it."""
    routers = [[shared(router, number) for number in range(2)] for router in range(2)]

    jobs = [admitted(pools, request(1.0, id_=id_)) for id_ in range(REQUESTS) for pools in routers]

    assert {job.plan.reason for job in jobs} == {Reason.DEGRADED}
    parts = Counter(job.arm.device for job in jobs)
    assert min(parts.values()) > 0.4 * len(jobs)


def test_a_pool_that_is_known_to_be_busier_is_left_alone() -> None:
    """A draw decides between equals only, whatever the busy pool's arm is worth."""
    routers = [[shared(router, number) for number in range(3)] for router in range(ROUTERS)]
    for pools in routers:
        assert isinstance(pools[1].ledger, SharedLedger)
        pools[1].ledger.heard("replica", 20.0, now_ms=0.0)

    sent = sum((choices(routers, id_=id_) for id_ in range(REQUESTS)), Counter())

    assert set(sent) == {"far-0", "far-2"}


def test_own_work_is_not_queued_behind_while_another_pool_is_idle() -> None:
    """What a router has sent itself it knows exactly, so there is nothing to draw."""
    pools = [shared(0, number) for number in range(2)]
    pools[0].ledger.start(1, 0.0, expected_ms=9.0)

    sent = sum((choices([pools], id_=id_) for id_ in range(REQUESTS)), Counter())

    assert sent == {"far-1": REQUESTS}


def test_neither_accuracy_nor_hardware_is_drawn_for() -> None:
    """A better arm, or the same one on a device that is twice as fast, is taken every time."""
    better = [shared(0, 0, accuracy=0.89), shared(0, 1)]
    faster = [shared(0, 0, slower=2.0), shared(0, 1)]

    sent = sum((choices([better, faster], id_=id_) for id_ in range(REQUESTS)), Counter())

    assert sent == {"far-1": 2 * REQUESTS}


def test_a_pool_of_ones_own_is_not_drawn_for() -> None:
    """Nobody else sends there: the best of one's own pools is the best."""
    own = [
        pool(arms_of(*(one.accuracy or 0.0 for one in ARMS), device=d), SERVICE_MS) for d in "ab"
    ]

    sent = sum((choices([own], id_=id_) for id_ in range(REQUESTS)), Counter())

    assert sent == {"a": REQUESTS}


def test_of_equals_the_lowest_lot_is_taken() -> None:
    """The values alone: the third is busier, the fourth is somebody's own."""
    idle, busy = Estimate(0.0, 1.0, 4.0, 0.0, 0.0), Estimate(1.0, 1.0, 4.0, 0.0, 0.0)
    rivals = [Rival(0.8, idle, 3), Rival(0.8, idle, 2), Rival(0.8, busy, 1), Rival(0.8, idle, None)]

    assert spread(rivals, 0) == 1
    assert spread(rivals, 2) == 1
    assert spread(rivals, 3) == 3
