"""A ledger that knows what others have committed to the same pool, and how many replicas it has."""

from mnv4serve.router.shared import FORGOTTEN_MS, FRESH_MS, SharedLedger


def test_work_of_others_is_waited_for() -> None:
    """Slot time that a replica reports beyond one's own delays the next job, slot by slot."""
    ledger = SharedLedger(slots=2, max_queue=8)

    ledger.heard("a", 40.0, now_ms=100.0)

    assert ledger.wait_ms(100.0, 1e9) == 20.0


def test_work_of_others_is_worked_off() -> None:
    """As time goes by without news, what others had committed is taken to be done."""
    ledger = SharedLedger(slots=1, max_queue=8)
    ledger.heard("a", 40.0, now_ms=100.0)

    assert [ledger.wait_ms(at, 1e9) for at in (110.0, 130.0, 150.0)] == [30.0, 10.0, 0.0]


def test_own_work_is_not_counted_twice() -> None:
    """What a replica reports of one's own jobs is in the ledger already."""
    ledger = SharedLedger(slots=1, max_queue=8)
    ledger.start(1, 100.0, expected_ms=30.0)

    ledger.heard("a", 30.0, now_ms=100.0)

    assert ledger.wait_ms(100.0, 1e9) == 30.0


def test_old_news_is_no_news() -> None:
    """A report from long ago says nothing about now."""
    ledger = SharedLedger(slots=1, max_queue=8)

    ledger.heard("a", 1e6, now_ms=0.0)

    assert ledger.wait_ms(FRESH_MS + 1.0, 1e9) == 0.0


def test_every_replica_brings_its_slots() -> None:
    """A second replica doubles the slots, and shares what the first has promised."""
    ledger = SharedLedger(slots=2, max_queue=8)
    ledger.heard("a", 40.0, now_ms=100.0)

    ledger.heard("b", 0.0, now_ms=100.0)

    assert (ledger.slots, ledger.idle_slots) == (4, 4)
    assert ledger.wait_ms(100.0, 1e9) == 10.0


def test_a_silent_replica_takes_its_slots_along() -> None:
    """Idle slots go at once, busy ones when they become idle."""
    ledger = SharedLedger(slots=1, max_queue=8)
    for replica in ("a", "b", "c"):
        ledger.heard(replica, 0.0, now_ms=0.0)
    ledger.start(1, 0.0, expected_ms=5.0)
    ledger.start(2, 0.0, expected_ms=5.0)

    ledger.heard("a", 0.0, now_ms=FORGOTTEN_MS + 1.0)
    while_busy = (ledger.slots, ledger.idle_slots)
    ledger.finish(1, FORGOTTEN_MS + 2.0)
    ledger.finish(2, FORGOTTEN_MS + 2.0)

    assert while_busy == (1, 0)
    assert ledger.idle_slots == 1
