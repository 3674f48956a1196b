import itertools
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv4serve.domain import Picture, Timing
from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.learning import LONG, SHORT
from mnv4serve.router.predict import PATIENCE, TIGHT, Predictor
from tests.router.builders import DECODE, FREE, PHOTO, arm, arms_of, predictor, timing

durations = st.floats(0.0, 200.0)
estimates = st.builds(
    Estimate,
    wait_ms=st.one_of(st.just(0.0), durations),
    decode_ms=durations,
    service_ms=st.floats(0.01, 200.0),
    hop_ms=st.floats(0.0, 5.0),
    reply_ms=st.floats(0.0, 5.0),
)
ARM = arm()


def _experienced(seed: int, n: int = 300) -> Predictor:
    """A predictor that has seen noisy runs and waits."""
    generator = random.Random(seed)
    subject = predictor([ARM], [2.0])
    for _ in range(n):
        _run(subject, 2.0 * generator.lognormvariate(0.0, 0.3))
        waited_ms = 5.0 * generator.lognormvariate(0.1, 0.4)
        for budget_ms in (9.0, 100.0):
            subject.observe_wait(expected_ms=5.0, actual_ms=waited_ms, budget_ms=budget_ms)
    return subject


def _run(subject: Predictor, service_ms: float, *, decode_ms: float = 0.0) -> None:
    expected = subject.expect(ARM, PHOTO, wait_ms=0.0)
    spent = Spent(decode_ms, service_ms, decode_ms + service_ms + 0.05)
    subject.observe(ARM, [PHOTO], expected, spent)


def _refuse(subject: Predictor, times: int) -> None:
    for _ in range(times):
        subject.refused()


def test_estimate_adds_up() -> None:
    """The whole latency is wait, decode, service, hop and reply."""
    estimate = Estimate(1.0, 2.0, 4.0, 8.0, 16.0)

    assert estimate.total_ms == 31.0
    assert (estimate.slot_ms, estimate.run_ms) == (14.0, 14.0)
    assert estimate._replace(away_ms=8.0).slot_ms == 6.0
    assert estimate.after(5.0) == estimate._replace(wait_ms=5.0)


def test_expectation_starts_from_the_profile() -> None:
    """Before anything ran, an arm is expected to take its profiled median."""
    subject = Predictor(timings={ARM.id: {1: timing(2.0)}}, decode=DECODE, reply_ms=0.2, hop_ms=0.3)

    estimate = subject.expect(ARM, PHOTO, wait_ms=4.0)

    assert estimate == Estimate(4.0, DECODE.expect(PHOTO, 224), 2.0, 0.3, 0.2)


def test_batches_take_the_next_larger_measured_size() -> None:
    """Between measured sizes the larger one counts; beyond the largest, time grows with size."""
    by_batch = {1: timing(2.0), 4: timing(5.0), 8: timing(9.0)}
    subject = Predictor(timings={ARM.id: by_batch}, decode=FREE, reply_ms=0.0)

    service_ms = [
        subject.expect(ARM, PHOTO, wait_ms=0.0, batch=batch).service_ms for batch in (1, 3, 8, 16)
    ]

    assert service_ms == [2.0, 5.0, 9.0, 18.0]


@given(estimates, durations, durations, st.integers(0, 3))
def test_more_time_is_never_less_likely_enough(
    estimate: Estimate, remaining_ms: float, more_ms: float, seed: int
) -> None:
    """The probability of being on time never falls as the remaining time grows."""
    subject = _EXPERIENCED[seed]

    sooner = subject.on_time_probability(estimate, remaining_ms)
    later = subject.on_time_probability(estimate, remaining_ms + more_ms)

    assert 0.0 <= sooner <= later <= 1.0


@given(estimates, durations, durations, st.integers(0, 3))
def test_a_longer_wait_never_helps(
    estimate: Estimate, wait_ms: float, more_ms: float, seed: int
) -> None:
    """The probability of being on time never rises as the queue grows."""
    subject = _EXPERIENCED[seed]

    probabilities = [
        subject.on_time_probability(estimate.after(0.1 + wait), 100.0)
        for wait in (wait_ms, wait_ms + more_ms)
    ]

    assert probabilities[1] <= probabilities[0] + 1e-12


@given(estimates, st.floats(0.5, 1.0, exclude_max=True), st.integers(0, 3))
def test_required_time_reaches_the_target_and_hardly_less_does(
    estimate: Estimate, target: float, seed: int
) -> None:
    """The required time is enough, and a few percent less is not."""
    subject = _EXPERIENCED[seed]

    required_ms = subject.required_ms(estimate, target)

    assert subject.on_time_probability(estimate, required_ms) >= target
    assert subject.on_time_probability(estimate, 0.97 * required_ms - 0.01) <= target


def test_margin_covers_the_spread_and_the_reply() -> None:
    """A run that keeps its margin free is on time with the target probability."""
    subject = _EXPERIENCED[0]
    estimate = subject.expect(ARM, PHOTO, wait_ms=0.0)

    margin_ms = subject.margin_ms(estimate, 0.95)

    assert subject.on_time_probability(estimate, estimate.slot_ms + margin_ms) >= 0.95
    assert margin_ms > estimate.reply_ms


def test_first_request_is_judged_by_the_profiles_spread() -> None:
    """Before any run, the median is a coin toss and half as much again is safe."""
    subject = predictor([ARM], [10.0])
    estimate = subject.expect(ARM, PHOTO, wait_ms=0.0)

    def probability(share: float) -> float:
        return subject.on_time_probability(estimate, estimate.total_ms * share)

    assert probability(1.0) == pytest.approx(0.5, abs=0.05)
    assert probability(1.5) >= 0.99
    assert probability(0.8) == 0.0


@pytest.mark.parametrize("p99_ms", [None, 400.0])
def test_a_wildly_noisy_profile_is_believed_within_bounds(p99_ms: float | None) -> None:
    """A profile taken on a busy host does not rule out what is probably fine."""
    noisy = Timing(p50_ms=2.0, p90_ms=40.0, p99_ms=p99_ms, n=50)
    subject = Predictor(timings={ARM.id: {1: noisy}}, decode=FREE, reply_ms=0.0)

    estimate = subject.expect(ARM, PHOTO, wait_ms=0.0)

    assert subject.required_ms(estimate, 0.95) < 4.0


def test_no_arms_at_all_is_no_error() -> None:
    """A pool without profiled arms can still be described."""
    subject = Predictor(timings={}, decode=FREE, reply_ms=0.1)

    assert subject.slowdown == 1.0
    assert subject.reply_ms == 0.1


def _reply(subject: Predictor, reply_ms: float) -> None:
    for _ in range(SHORT):
        subject.observe_reply(reply_ms)


def test_several_arms_alone_are_expected_as_each_of_them_is() -> None:
    """Arms asked about together, and again after each thing learnt, get what `expect` has now."""
    arms = (ARM, arm("other", resolution=160))
    subject = predictor(arms, [2.0, 6.0], decode=DECODE)
    before = list(subject.alone(arms, PHOTO))
    seen = [before]

    for learn in (
        partial(_run, subject, 3.0, decode_ms=5.0),
        partial(_reply, subject, 0.7),
        partial(_refuse, subject, PATIENCE + 1),
    ):
        learn()
        seen.append(list(subject.alone(arms, PHOTO)))
        assert seen[-1] == [subject.expect(one, PHOTO, wait_ms=0.0) for one in arms]

    assert all(earlier != later for earlier, later in itertools.pairwise(seen))
    assert list(subject.alone(arms[1:], PHOTO)) == seen[-1][1:]


def test_what_others_tell_of_the_device_is_believed_bit_by_bit() -> None:
    """Who hears often enough that it is slow expects slower runs without having had one."""
    subject = predictor([ARM], [2.0])

    subject.told(1.5)
    once = subject.expect(ARM, PHOTO, wait_ms=0.0).service_ms
    for _ in range(60):
        subject.told(1.5)

    assert 2.0 < once < 2.5
    assert subject.slowdown == pytest.approx(1.5, rel=0.01)
    assert subject.expect(ARM, PHOTO, wait_ms=0.0).service_ms == pytest.approx(3.0, rel=0.05)


def test_slow_runs_of_one_arm_correct_another() -> None:
    """When a device slows down, arms that have not run yet are expected to be slower too."""
    untried = arm("other", accuracy=0.9)
    subject = predictor([ARM, untried], [2.0, 6.0])

    for _ in range(40):
        _run(subject, 3.0)

    assert subject.slowdown == pytest.approx(1.5, rel=0.1)
    assert subject.expect(ARM, PHOTO, wait_ms=0.0).service_ms == pytest.approx(3.0, rel=0.05)
    assert subject.expect(untried, PHOTO, wait_ms=0.0).service_ms == pytest.approx(9.0, rel=0.1)


def test_an_arm_that_is_slower_than_profiled_is_told_apart() -> None:
    """Where only one of two arms is slow, the other's expectation stays about right."""
    slow, fine = arms_of(0.8, 0.9)
    subject = predictor([slow, fine], [2.0, 2.0])

    for _ in range(600):
        for one, service_ms in ((slow, 3.0), (fine, 2.0)):
            expected = subject.expect(one, PHOTO, wait_ms=0.0)
            subject.observe(one, [PHOTO], expected, Spent(0.0, service_ms, service_ms))

    assert subject.expect(slow, PHOTO, wait_ms=0.0).service_ms == pytest.approx(3.0, rel=0.1)
    assert subject.expect(fine, PHOTO, wait_ms=0.0).service_ms == pytest.approx(2.0, rel=0.1)


def test_decoding_is_learnt_by_format() -> None:
    """A decoder that is slower than fitted for one format changes that format only."""
    subject = predictor([ARM], [2.0], decode=DECODE)
    png = Picture("PNG", 500, 375, 300_000)
    fitted_ms = DECODE.expect(PHOTO, 224)

    for _ in range(200):
        _run(subject, 2.0, decode_ms=1.6 * fitted_ms)

    assert subject.expect(ARM, PHOTO, wait_ms=0.0).decode_ms == pytest.approx(
        1.6 * fitted_ms, rel=0.05
    )
    assert subject.expect(ARM, png, wait_ms=0.0).decode_ms == pytest.approx(DECODE.expect(png, 224))


def test_hand_over_and_reply_are_learnt() -> None:
    """Time that neither decoding nor inference explains becomes the hop; replies cost as seen."""
    subject = predictor([ARM], [2.0])

    for _ in range(400):
        expected = subject.expect(ARM, PHOTO, wait_ms=0.0)
        subject.observe(ARM, [PHOTO], expected, Spent(0.0, 2.0, 2.4))
        subject.observe_reply(0.7)

    assert subject.expect(ARM, PHOTO, wait_ms=0.0).hop_ms == pytest.approx(0.4, abs=0.05)
    assert subject.reply_ms == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("target", [0.8, 0.95])
@pytest.mark.parametrize("service_ms", [1.0, 8.0])
def test_probability_is_calibrated_without_a_queue(target: float, service_ms: float) -> None:
    """Of runs judged to be on time with a probability, about that share is."""
    generator = random.Random(11)
    subject = predictor([ARM], [service_ms])
    on_time = 0

    for turn in range(2500):
        expected = subject.expect(ARM, PHOTO, wait_ms=0.0)
        required_ms = subject.required_ms(expected, target)
        actual_ms = service_ms * generator.lognormvariate(0.0, 0.15) + generator.expovariate(5.0)
        on_time += turn >= 500 and actual_ms + expected.reply_ms <= required_ms
        subject.observe(ARM, [PHOTO], expected, Spent(0.0, actual_ms, actual_ms))

    assert on_time / 2000 == pytest.approx(target, abs=0.02)


def test_waits_that_exceed_their_expectation_lower_the_probability() -> None:
    """What was learnt of waits counts for requests that would wait, and for no others."""
    subject = predictor([ARM], [2.0])
    waiting, idle = (subject.expect(ARM, PHOTO, wait_ms=ms) for ms in (10.0, 0.0))
    before = [subject.on_time_probability(waiting, 16.0), subject.on_time_probability(idle, 2.5)]

    for _ in range(64):
        subject.observe_wait(expected_ms=10.0, actual_ms=30.0, budget_ms=16.0)
        subject.observe_wait(expected_ms=0.0, actual_ms=30.0, budget_ms=16.0)

    assert subject.on_time_probability(waiting, 16.0) < 0.8 < before[0]
    assert subject.on_time_probability(idle, 2.5) == before[1]


def test_how_wrong_waits_are_is_remembered_apart_for_tight_budgets() -> None:
    """Loose budgets are overtaken while they wait; that says nothing of tight ones."""
    subject = predictor([ARM], [2.0])
    waiting = subject.expect(ARM, PHOTO, wait_ms=10.0)
    tight_ms, loose_ms = 0.6 * TIGHT * 3.0, 2.0 * TIGHT * 3.0
    before = subject.on_time_probability(waiting, tight_ms)

    for _ in range(LONG):
        subject.observe_wait(expected_ms=10.0, actual_ms=60.0, budget_ms=loose_ms)

    assert subject.on_time_probability(waiting, tight_ms) == before > 0.5
    assert subject.on_time_probability(waiting, loose_ms) < 0.8


def test_a_few_long_replies_cost_no_more_than_their_share() -> None:
    """Most replies being short, a request is likely on time that a long one would make late."""
    subject = predictor([ARM], [2.0])
    for number in range(SHORT):
        subject.observe_reply(5.0 if number % 8 == 0 else 0.1)
    estimate = subject.expect(ARM, PHOTO, wait_ms=0.0)

    assert estimate.reply_ms == 0.1
    assert 0.85 < subject.on_time_probability(estimate, 4.0) < 0.95
    assert subject.on_time_probability(estimate, 20.0) == 1.0


def test_a_tiny_arm_that_doubles_does_not_make_the_device_look_twice_as_slow() -> None:
    """Where caches are shared, a tenth of a millisecond more is nothing to a longer run."""
    tiny, large = arm("tiny"), arm("large")
    subject = predictor([tiny, large], [0.1, 10.0])
    for _ in range(200):
        expected = subject.expect(tiny, PHOTO, wait_ms=0.0)
        subject.observe(tiny, [PHOTO], expected, Spent(0.0, 0.2, 0.2))

    assert subject.expect(tiny, PHOTO, wait_ms=0.0).service_ms == pytest.approx(0.2, rel=0.05)
    assert subject.expect(large, PHOTO, wait_ms=0.0).service_ms < 15.0


def test_no_arm_is_expected_to_take_less_than_nothing() -> None:
    """On a device much faster than when it was profiled."""
    tiny, large = arm("tiny"), arm("large")
    subject = predictor([tiny, large], [0.01, 10.0])
    for _ in range(200):
        expected = subject.expect(large, PHOTO, wait_ms=0.0)
        subject.observe(large, [PHOTO], expected, Spent(0.0, 1.0, 1.0))

    assert subject.expect(tiny, PHOTO, wait_ms=0.0).service_ms >= 0.0


def test_a_long_row_of_refusals_ends_distrust() -> None:
    """After a bad spell in which everything is refused, the predictor tries again in the end."""
    subject = predictor([ARM], [2.0])
    for _ in range(600):
        _run(subject, 20.0)
    distrusted = subject.required_ms(subject.expect(ARM, PHOTO, wait_ms=0.0), 0.95)

    for _ in range(PATIENCE + 600):
        subject.refused()

    assert distrusted > 15.0
    assert subject.required_ms(subject.expect(ARM, PHOTO, wait_ms=0.0), 0.95) < 4.0


def test_refusals_between_runs_change_nothing() -> None:
    """While runs come in, they are believed however many requests are refused in between."""
    subject = predictor([ARM], [2.0])

    for _ in range(200):
        _run(subject, 4.0)
        for _ in range(PATIENCE):
            subject.refused()

    assert subject.expect(ARM, PHOTO, wait_ms=0.0).service_ms == pytest.approx(4.0, rel=0.05)


_EXPERIENCED = [_experienced(0, n=0), *(_experienced(seed) for seed in (1, 2, 3))]
