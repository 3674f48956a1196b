"""A ledger that knows what others have committed to the same pool."""

from mnv4serve.router.shared import FRESH_MS, SharedLedger


def test_work_of_others_is_waited_for() -> None:
    """Slot time that the pool reports beyond one's own delays the next job, slot by slot."""
    ledger = SharedLedger(slots=2, max_queue=8)

    ledger.heard(40.0, now_ms=100.0)

    assert ledger.wait_ms(100.0, 1e9) == 20.0


def test_work_of_others_is_worked_off() -> None:
    """As time goes by without news, what others had committed is taken to be done."""
    ledger = SharedLedger(slots=1, max_queue=8)
    ledger.heard(40.0, now_ms=100.0)

    assert [ledger.wait_ms(at, 1e9) for at in (110.0, 130.0, 150.0)] == [30.0, 10.0, 0.0]


def test_own_work_is_not_counted_twice() -> None:
    """What the pool reports of one's own jobs is in the ledger already."""
    ledger = SharedLedger(slots=1, max_queue=8)
    ledger.start(1, 100.0, expected_ms=30.0)

    ledger.heard(30.0, now_ms=100.0)

    assert ledger.wait_ms(100.0, 1e9) == 30.0


def test_old_news_is_no_news() -> None:
    """A report from long ago says nothing about now."""
    ledger = SharedLedger(slots=1, max_queue=8)

    ledger.heard(1e6, now_ms=0.0)

    assert ledger.wait_ms(FRESH_MS + 1.0, 1e9) == 0.0
