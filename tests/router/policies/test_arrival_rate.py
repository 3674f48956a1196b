import pytest

from mnv4serve.router.policies.arrival_rate import ArrivalRate


def test_counts_what_came_within_the_window() -> None:
    """Old arrivals no longer count, whether or not new ones come."""
    rate = ArrivalRate(window_ms=100.0)
    for now_ms in range(200):
        rate.count(float(now_ms))

    assert rate.per_ms(199.0) == pytest.approx(1.0, abs=0.02)
    assert rate.per_ms(250.0) == pytest.approx(0.5, abs=0.02)
    assert rate.per_ms(1000.0) == 0.0


def test_a_short_history_is_not_taken_for_a_whole_window() -> None:
    """Ten requests in ten milliseconds are one a millisecond, even early on."""
    rate = ArrivalRate(window_ms=1000.0)
    for now_ms in range(11):
        rate.count(float(now_ms))

    assert rate.per_ms(10.0) == pytest.approx(1.0, abs=0.15)


def test_nothing_is_known_before_the_first_request() -> None:
    """Without arrivals there is no rate to act on."""
    assert ArrivalRate(window_ms=10.0).per_ms(5.0) == 0.0
