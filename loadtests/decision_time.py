"""How long the router takes to decide: admission and dispatch with 12 arms and 64 jobs waiting.

    python -m loadtests.decision_time --rounds 5000

Processor time in microseconds, so that a busy host does not show; on learnt distributions, with
garbage collection off.
"""

import gc
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace

from loadtests.flags import command_line, count
from loadtests.report import console
from mnv4serve.domain import Arm, BackendName, OnMiss, Picture, Precision, Terms, Timing
from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.router.estimate import Spent
from mnv4serve.router.jobs import Job, Request
from mnv4serve.router.planner import Pool, Rules, admit, arrived, dispatch, learn
from mnv4serve.router.policies.priced import Priced
from mnv4serve.router.predict import Predictor
from mnv4serve.router.refusal import Refusal
from mnv4serve.router.schedule import Ledger

RULES = Rules()
PHOTO = Picture("JPEG", width=500, height=375, n_bytes=107_000)
QUEUED = 64
NS_PER_US = 1000.0


def make_pool() -> Pool:
    """Six resolutions on two backends, with two slots."""
    arms, timings = [], {}
    for resolution in (96, 128, 160, 192, 224, 256):
        for backend, cost in ((BackendName.CPU, 1.2), (BackendName.ONNX, 3.0)):
            accuracy = 0.75 + resolution / 2000.0
            variant = f"conv_small@{resolution}"
            arm = Arm(variant, backend, Precision.FP32, "cpu", resolution, accuracy)
            p50_ms = cost * (resolution / 224) ** 2
            arms.append(arm)
            timings[arm.id] = {1: Timing(p50_ms, 1.1 * p50_ms, 1.4 * p50_ms, n=200)}
    decode = DecodeCost(0.1, 4.0, 3.0, 1.0, 20.0)
    predictor = Predictor(timings=timings, decode=decode, reply_ms=0.1)
    return Pool("cpu", tuple(arms), predictor, Ledger(slots=2, max_queue=256), Priced())


def request(number: int, budget_ms: float, on_miss: OnMiss = OnMiss.DEGRADE) -> Request:
    """With a picture of its own, of which nothing can have been worked out before."""
    return Request(number, replace(PHOTO), Terms(budget_ms=budget_ms, on_miss=on_miss), 0.0)


def teach(pool: Pool, generator: random.Random) -> None:
    """Runs and waits with noise, so that nothing is as regular as the prior."""
    now_ms = 0.0
    for number in range(600):
        now_ms += generator.expovariate(0.5)
        wanted = request(number, generator.choice((5.0, 30.0, 100.0)))
        job = admit([pool], wanted, now_ms=0.0, rules=RULES)
        arrived([pool], wanted, job, now_ms=now_ms)
        assert isinstance(job, Job)
        pool.ledger.admit(job)
        run = dispatch(pool, now_ms=0.0, rules=RULES).run
        assert run is not None
        pool.ledger.finish(number, 0.0)
        decode_ms, service_ms = (
            expected_ms * generator.lognormvariate(0.0, 0.15)
            for expected_ms in (run.estimate.decode_ms, run.estimate.service_ms)
        )
        learn(pool, run, Spent(decode_ms, service_ms, decode_ms + service_ms + 0.1), now_ms=0.0)
        pool.predictor.observe_wait(
            expected_ms=5.0, actual_ms=5.0 * generator.lognormvariate(0.0, 0.3), budget_ms=30.0
        )


def fill(pool: Pool) -> None:
    """Take both slots and let 64 jobs wait, each with little more time than it needs."""
    number = 10_000
    while pool.ledger.depth < QUEUED:
        number += 1
        wait_ms = pool.ledger.squeezed_wait_ms(0.0, math.inf)
        job = admit([pool], request(number, 1.05 * wait_ms + 5.0), now_ms=0.0, rules=RULES)
        assert isinstance(job, Job)
        pool.ledger.admit(job)
        dispatch(pool, now_ms=0.0, rules=RULES)


def outcome(pool: Pool, wanted: Request) -> str:
    decided = admit([pool], wanted, now_ms=0.1, rules=RULES)
    if isinstance(decided, Refusal):
        return "refused"
    return "degraded" if decided.tier else "on time"


def time_admission(pool: Pool, wanted: Request) -> Callable[[], int]:
    """One admission, in nanoseconds."""

    def measure() -> int:
        newcomer = replace(wanted, picture=replace(PHOTO))
        started = time.thread_time_ns()
        admit([pool], newcomer, now_ms=0.1, rules=RULES)
        return time.thread_time_ns() - started

    return measure


def time_dispatch(pool: Pool) -> Callable[[], int]:
    """One dispatch with the queue kept at its depth, in nanoseconds."""

    def measure() -> int:
        pool.ledger.finish(pool.ledger.running[0].run_id, 0.1)
        started = time.thread_time_ns()
        run = dispatch(pool, now_ms=0.1, rules=RULES).run
        elapsed = time.thread_time_ns() - started
        assert run is not None
        pool.ledger.finish(run.id, 0.1)
        pool.ledger.admit(run.jobs[0])
        pool.ledger.start(-1, 0.1, expected_ms=3.0)
        return elapsed

    return measure


def report(name: str, measure: Callable[[], int], rounds: int) -> None:
    for _ in range(200):
        measure()
    durations = sorted(measure() for _ in range(rounds))
    p50, p99 = (durations[int(share * rounds)] / NS_PER_US for share in (0.5, 0.99))
    console.print(f"{name:<38} p50 {p50:7.1f} us   p99 {p99:7.1f} us")


def main() -> None:
    parser = command_line("loadtests.decision_time", __doc__)
    parser.add_argument("--rounds", type=count, default=5000, help="default %(default)s")
    rounds = parser.parse_args().rounds
    generator = random.Random(1)
    pool = make_pool()
    teach(pool, generator)
    gc.disable()
    report("admission, idle", time_admission(pool, request(0, 8.0)), rounds)
    fill(pool)
    for name, wanted in (
        ("on time", request(0, 500.0)),
        ("degraded", request(0, 2.0)),
        ("refused", request(0, 2.0, OnMiss.REFUSE)),
    ):
        assert outcome(pool, wanted) == name
        report(f"admission, {QUEUED} waiting, {name}", time_admission(pool, wanted), rounds)
    report("dispatch, 64 waiting", time_dispatch(pool), rounds)


if __name__ == "__main__":
    main()
