import numpy as np
import pytest

from mnv4serve.domain import Picture, Timing
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.simulate.scenario import offer
from mnv4serve.simulate.truth import BLOCK, Noise, Truth
from tests.simulate.builders import kind, scenario, timing, with_batches

DECODE = DecodeCost(0.1, 10.0, 0.0, 0.0, 0.0)


def test_noise_has_the_profiles_percentiles() -> None:
    """Half of the runs take longer than p50, a tenth longer than p90, a hundredth than p99."""
    rows = Noise(scenario(kind((1.0, 0.8))), [Timing(2.0, 2.4, 4.0, n=9)]).rows(0, 40_000)

    found = np.percentile(rows[:, 0] * 2.0, [50, 90, 99])
    assert found == pytest.approx([2.0, 2.4, 4.0], rel=0.05)


def test_noise_without_a_p99_is_log_normal() -> None:
    """The way to the p90 goes on; below the median it is mirrored."""
    rows = Noise(scenario(kind((1.0, 0.8))), [Timing(1.0, 1.2, None, n=9)]).rows(0, 40_000)

    low, high = np.percentile(np.log(rows[:, 0]), [10, 90])
    assert -low == pytest.approx(high, rel=0.05)


def test_a_given_spread_replaces_the_profiles() -> None:
    """Every arm and decoding vary as the scenario says."""
    subject = scenario(kind((1.0, 0.8)), noise=0.3)

    rows = Noise(subject, [timing(1.0, spread=0.01)]).rows(0, 20_000)

    assert np.log(rows).std(axis=0) == pytest.approx([0.3, 0.3], rel=0.05)


def test_noise_is_the_same_however_it_is_asked_for() -> None:
    """One request at a time, in any order, or a table of many across blocks."""
    noise = Noise(scenario(kind((1.0, 0.8))), [timing(1.0, spread=0.2)])
    rows = noise.rows(BLOCK - 2, BLOCK + 3)

    singly = [noise.of(request) for request in reversed(range(BLOCK - 2, BLOCK + 3))]

    assert np.array(singly[::-1]) == pytest.approx(rows)


def test_run_times_are_decoding_and_inference_and_hop() -> None:
    """Without noise they are what the profile says of the picture at hand."""
    pictures = (Picture("JPEG", 100, 100, 10_000), Picture("JPEG", 100, 100, 90_000))
    one = kind((2.0, 0.8), hop_ms=0.5, decode=DECODE)
    subject = scenario(one, noise=0.0, pictures=pictures, requests=50)
    offered = offer(subject)

    truth = Truth(subject, offered)

    expected_ms = np.where(offered.pictures == 0, 2.7, 3.5)
    assert [truth.run_ms(one, 0, request) for request in range(50)] == pytest.approx(expected_ms)
    assert truth.table(0, 50)[:, 0] == pytest.approx(expected_ms)


def test_a_batch_is_as_slow_as_its_slowest_member() -> None:
    """Its noise is the largest of its members'."""
    one = with_batches(kind((1.0, 0.8)), {1: 1.0, 2: 1.5}, spread=0.3)
    subject = scenario(one, requests=10)
    truth = Truth(subject, offer(subject))

    alone_ms = [truth.service_ms(one, 0, [request]) for request in (3, 4)]

    assert truth.service_ms(one, 0, [3, 4]) == pytest.approx(1.5 * max(alone_ms))


def test_the_table_holds_the_least_a_batch_can_make_of_a_request() -> None:
    """With four at 2 ms and a hop shared by four, a request alone takes no less than a quarter."""
    one = with_batches(kind((1.0, 0.8), hop_ms=0.4), {1: 1.0, 4: 2.0})
    subject = scenario(one, requests=10, noise=0.0)

    assert Truth(subject, offer(subject)).table(0, 10)[:, 0] == pytest.approx(np.full(10, 0.6))


def test_decoding_that_was_measured_replaces_what_the_router_expects() -> None:
    """By picture and resolution; pictures that were not measured cost what is expected."""
    known, other = Picture("JPEG", 100, 100, 10_000), Picture("JPEG", 100, 100, 90_000)
    subject = kind((1.0, 0.8), decode=DECODE, decodings={(known, 160): 7.0})

    assert subject.decode_ms(known, 160) == 7.0
    assert subject.decode_ms(other, 160) == pytest.approx(1.0)
