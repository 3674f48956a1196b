"""Expected latency of an arm for a picture, and the probability that it holds.

Learns from finished runs of one pool; knows no clock and measures nothing.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from mnv4serve.domain import Arm, Picture, Timing
from mnv4serve.router.decode_cost import DecodeCost, Decoding
from mnv4serve.router.estimate import Estimate, Spent
from mnv4serve.router.learning import Drift, Recent, Replies, RunningQuantile
from mnv4serve.router.prior import JITTER_MS, prior_ratios, worthwhile_batches

PATIENCE = 64
"""Refusals without a run in between after which what was learnt begins to fade."""
COLD_MS = 0.15
"""Added to both sides of ratios of service times: where caches are shared with others, an arm of a
tenth of a millisecond takes twice as long and one of two milliseconds a little longer, and neither
may make a picture's decoding look slow."""
TIGHT = 8.0
"""Usual runs up to which a budget is tight: its requests are hardly overtaken while they wait, and
how wrong their waits are is remembered apart."""
_TOLERANCE = 0.02


class Predictor:
    """Predicts the runs of one pool and learns from what really happened.

    Two ratios actual / expected are remembered apart: of runs (from dispatch on) and of waits.
    Before dispatch a request faces both, at dispatch only the first.
    """

    def __init__(
        self,
        *,
        timings: Mapping[str, Mapping[int, Timing]],
        decode: DecodeCost,
        reply_ms: float,
        hop_ms: float = 0.0,
        far: bool = False,
    ) -> None:
        self._service_ms = {
            arm_id: {batch: by_batch[batch].p50_ms for batch in sorted(by_batch)}
            for arm_id, by_batch in timings.items()
        }
        self._alone_ms = {arm_id: self._profiled_ms(arm_id, 1) for arm_id in timings}
        self.batch_sizes = worthwhile_batches(timings)
        """Larger than one, at which some arm was measured to take less time for each picture."""
        self._decoding = Decoding(decode)
        self._replies = Replies(reply_ms)
        self._hop = RunningQuantile(hop_ms, share=0.5)
        self._away = 1.0 if far else 0.0
        self._slowdown = Drift(gain=0.1)
        self._arm_drift = {arm_id: Drift(gain=0.02, leak=0.005) for arm_id in timings}
        self._switch_drift = Drift(gain=0.1)
        prior = prior_ratios(timings)
        self._runs = Recent(prior)
        self._tight_waits, self._waits = Recent(prior), Recent(prior)
        shortest_ms = min(self._alone_ms.values(), default=0.0)
        self._usual_run = RunningQuantile(shortest_ms + JITTER_MS, share=0.5)
        self._refused_in_a_row = 0
        self._alone: tuple[Sequence[Arm], Picture, list[Estimate]] | None = None

    @property
    def slowdown(self) -> float:
        """How much slower the whole device is at the moment than when it was profiled."""
        return self._slowdown.factor

    @property
    def hop_ms(self) -> float:
        """What the way to the pool and back takes half of the runs at most."""
        return self._hop.value_ms

    @property
    def reply_ms(self) -> float:
        """What half of the replies take at most from the slot's end to the last byte written."""
        return self._replies.usual_ms

    def expect(
        self,
        arm: Arm,
        picture: Picture,
        *,
        wait_ms: float,
        batch: int = 1,
        switch_ms: float = 0.0,
    ) -> Estimate:
        """The expected latency, corrected by everything learnt so far.

        `switch_ms`: what bringing the arm's weights takes as profiled, zero where they are there.
        """
        arm_id = arm.id
        slowdown = self._slowdown.factor
        decode_ms = self._decoding.expect_ms(picture, arm.resolution, slowdown=slowdown)
        profiled_ms = self._alone_ms[arm_id] if batch == 1 else self._profiled_ms(arm_id, batch)
        service_ms = _slowed(profiled_ms, slowdown * self._arm_drift[arm_id].factor)
        switch_ms *= self._switch_drift.factor
        service_ms += switch_ms
        hop_ms, reply_ms = self._hop.value_ms, self._replies.usual_ms
        away_ms = self._away * hop_ms
        return Estimate(wait_ms, decode_ms, service_ms, hop_ms, reply_ms, away_ms, switch_ms)

    def alone(self, arms: Sequence[Arm], picture: Picture) -> Sequence[Estimate]:
        """What `expect` has of each arm without a wait; kept until something is learnt."""
        last = self._alone
        if last is None or last[0] is not arms or last[1] is not picture:
            last = self._alone = (arms, picture, self._expect_all(arms, picture))
        return last[2]

    def least_ms(self, arm: Arm, picture: Picture) -> float:
        """Slot time for the picture alone, or its part of a batch where that is less."""
        parts_ms = []
        for size in (1, *self.batch_sizes):
            run = self.expect(arm, picture, wait_ms=0.0, batch=size)
            parts_ms.append(run.decode_ms + (run.slot_ms - run.decode_ms) / size)
        return min(parts_ms)

    def on_time_probability(self, estimate: Estimate, remaining_ms: float) -> float:
        """The share of comparable runs that would be answered within the remaining time."""
        return self._within(estimate, remaining_ms, self._waits_of(remaining_ms))

    def squeezed_probability(self, estimate: Estimate, remaining_ms: float) -> float:
        """The same where the wait is that of runs like this one, each as long as it takes.

        Nothing is left to chance but how long runs take: the wait is no longer a guess of what
        others will choose. Of several runs in a row the ratio of the sum scatters less than that
        of one, as their square root.
        """
        run_ms = estimate.run_ms + JITTER_MS
        whole_ms = estimate.wait_ms + run_ms
        ahead = max(1.0, estimate.wait_ms / estimate.run_ms)
        scatter_ms = math.sqrt(run_ms * run_ms + estimate.wait_ms * estimate.wait_ms / ahead)
        over_ms = remaining_ms + JITTER_MS - whole_ms
        return self._replies.mean(
            lambda reply_ms: self._runs.share_up_to(1.0 + (over_ms - reply_ms) / scatter_ms)
        )

    def required_ms(self, estimate: Estimate, target: float) -> float:
        """The smallest remaining time that reaches the target, tight or not, to two percent."""
        either = (self._tight_waits, self._waits) if estimate.wait_ms > 0.0 else (self._waits,)
        run_ms = self._run_within_ms(estimate, target)
        too_small = run_ms + self._replies.least_ms
        enough = run_ms + self._replies.most_ms
        if estimate.wait_ms > 0.0:
            wait_ms = estimate.wait_ms + JITTER_MS
            tight, other = self._tight_waits.points(), self._waits.points()
            too_small += wait_ms * min(tight[-1][1], other[-1][1]) - JITTER_MS
            enough += wait_ms * max(tight[0][1], other[0][1]) - JITTER_MS
        while enough - too_small > _TOLERANCE * enough:
            middle = 0.5 * (too_small + enough)
            if all(self._within(estimate, middle, waits) >= target for waits in either):
                enough = middle
            else:
                too_small = middle
        return enough

    def margin_ms(self, estimate: Estimate, target: float) -> float:
        """What to keep free beyond the slot's expected time so that a run hits the target."""
        run_over_ms = self._run_within_ms(estimate, target) - estimate.run_ms
        reply_over_ms = self._replies.most_ms - estimate.reply_ms
        over_ms = math.hypot(run_over_ms, reply_over_ms)
        return estimate.run_ms + estimate.reply_ms + over_ms - estimate.slot_ms

    def observe(
        self, arm: Arm, pictures: Sequence[Picture], expected: Estimate, actual: Spent
    ) -> None:
        """Learn from a run that finished; `expected` as decided at dispatch."""
        self._refused_in_a_row = 0
        self._alone = None
        if expected.switch_ms:
            self._observe_switch(expected, actual.service_ms)
        else:
            self._observe_service(arm.id, len(pictures), actual.service_ms)
        self._decoding.observe(pictures, arm.resolution, actual.decode_ms, slowdown=self.slowdown)
        self._hop.follow(max(0.0, actual.run_ms - actual.decode_ms - actual.service_ms))
        self._usual_run.follow(actual.run_ms)
        self._runs.add((actual.run_ms + JITTER_MS) / (expected.run_ms + JITTER_MS))

    def observe_wait(self, *, expected_ms: float, actual_ms: float, budget_ms: float) -> None:
        """Learn how long a job really waited that was expected to wait.

        A job that gave up waiting counts only once it had waited longer than expected: until then
        it says nothing, afterwards leaving it out would make the predictor optimistic just when
        the pool is overloaded.
        """
        if expected_ms > 0.0:
            ratio = (actual_ms + JITTER_MS) / (expected_ms + JITTER_MS)
            self._waits_of(budget_ms).add(ratio)

    def observe_reply(self, reply_ms: float) -> None:
        """Learn what loop and transport took from a slot's end to a written reply."""
        self._replies.add(reply_ms)
        self._alone = None

    def told(self, slowdown: float) -> None:
        """Learn how slow the device is from somebody else who has work done there."""
        self._slowdown.follow(slowdown)
        self._alone = None

    def refused(self) -> None:
        """Trust what was learnt a little less once many requests in a row were refused.

        To be called for every request that was refused for its budget. Refusals bring no
        observation, and without this one bad spell could make the pool refuse for ever; as long as
        runs come in between, they are believed instead.
        """
        self._refused_in_a_row += 1
        if self._refused_in_a_row <= PATIENCE:
            return
        self._decoding.fade(0.01)
        for drift in (self._slowdown, self._switch_drift, *self._arm_drift.values()):
            drift.fade(0.01)
        self._alone = None
        self._runs.forget()
        self._waits.forget()
        self._tight_waits.forget()

    def _within(self, estimate: Estimate, remaining_ms: float, waits: Recent) -> float:
        runs, replies = self._runs, self._replies
        run_ms = estimate.run_ms + JITTER_MS
        left_ms = remaining_ms + JITTER_MS
        if estimate.wait_ms <= 0.0:
            return replies.mean(lambda reply_ms: runs.share_up_to((left_ms - reply_ms) / run_ms))
        wait = (estimate.wait_ms + JITTER_MS) / run_ms
        left_ms += JITTER_MS
        return replies.mean(
            lambda reply_ms: runs.share_after(waits, wait, (left_ms - reply_ms) / run_ms)
        )

    def _waits_of(self, budget_ms: float) -> Recent:
        tight = budget_ms <= TIGHT * self._usual_run.value_ms
        return self._tight_waits if tight else self._waits

    def _observe_service(self, arm_id: str, batch: int, actual_ms: float) -> None:
        drift = self._arm_drift[arm_id]
        ratio = (actual_ms + COLD_MS) / (self._profiled_ms(arm_id, batch) + COLD_MS)
        self._slowdown.follow(ratio / drift.factor)
        drift.follow(ratio / self._slowdown.factor)

    def _observe_switch(self, expected: Estimate, actual_ms: float) -> None:
        """Such a run says nothing of the device's speed: bringing weights may be most of it."""
        profiled_ms = expected.switch_ms / self._switch_drift.factor
        taken_ms = actual_ms - expected.settled().service_ms
        self._switch_drift.follow(taken_ms / profiled_ms)

    def _run_within_ms(self, estimate: Estimate, target: float) -> float:
        """A little more than the target's quantile, so that rounding cannot fall short of it."""
        ratio = self._runs.quantile(min(1.0, target + 1e-9))
        return (estimate.run_ms + JITTER_MS) * ratio - JITTER_MS + 1e-6

    def _expect_all(self, arms: Sequence[Arm], picture: Picture) -> list[Estimate]:
        """One `expect` for each, where what they share is looked up once."""
        alone_ms, drift, slowdown = self._alone_ms, self._arm_drift, self._slowdown.factor
        decode_ms = {
            resolution: self._decoding.expect_ms(picture, resolution, slowdown=slowdown)
            for resolution in {arm.resolution for arm in arms}
        }
        hop_ms = self._hop.value_ms
        shared = (hop_ms, self._replies.usual_ms, self._away * hop_ms)
        return [
            Estimate(
                0.0,
                decode_ms[arm.resolution],
                _slowed(alone_ms[arm.id], slowdown * drift[arm.id].factor),
                *shared,
            )
            for arm in arms
        ]

    def _profiled_ms(self, arm_id: str, batch: int) -> float:
        by_batch = self._service_ms[arm_id]
        if batch in by_batch:
            return by_batch[batch]
        sizes = list(by_batch)
        above = min(bisect_left(sizes, batch), len(sizes) - 1)
        if batch > sizes[above]:
            return by_batch[sizes[above]] * batch / sizes[above]
        return by_batch[sizes[above]]


def _slowed(profiled_ms: float, factor: float) -> float:
    """A service time as profiled, where all are longer by a factor."""
    return max(0.0, (profiled_ms + COLD_MS) * factor - COLD_MS)
