import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv4serve.domain import OnMiss, Outcome
from mnv4serve.router.policies import POLICIES
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.faults import FaultKind, parse_fault
from mnv4serve.simulate.hardware import Cluster, Kind
from mnv4serve.simulate.records import OUTCOMES, Records
from mnv4serve.simulate.scenario import Scenario, offer, rate_at
from tests.simulate.builders import (
    PATIENT,
    OneArm,
    first_arm,
    kind,
    scenario,
    unwilling,
    with_batches,
)

THREE = ((1.0, 0.7), (3.0, 0.8), (9.0, 0.9))


def same(one: Records, other: Records) -> bool:
    """Whether all arrays agree."""
    names = [field.name for field in dataclasses.fields(Records)]
    return all(
        np.array_equal(mine, getattr(other, name), equal_nan=mine.dtype.kind == "f")
        for name in names
        if isinstance(mine := getattr(one, name), np.ndarray)
    )


def test_waits_are_those_of_a_queue_with_fixed_service() -> None:
    """Poisson arrivals and fixed service on one slot: Pollaczek and Khinchine's mean wait."""
    busy, service_ms = 0.7, 1.0
    subject = scenario(
        kind((service_ms, 0.8)), rate_per_s=700.0, requests=20_000, noise=0.0, budgets=PATIENT
    )

    found = simulate(subject, first_arm)

    expected_ms = busy * service_ms / (2.0 * (1.0 - busy))
    assert found.wait_ms.mean() == pytest.approx(expected_ms, rel=0.08)
    assert found.busy_ms.sum() / found.horizon_ms == pytest.approx(busy, rel=0.01)


def test_waits_are_those_of_a_queue_with_noisy_service() -> None:
    """The same with log-normal service, whose square grows with its spread."""
    spread, median_ms, rate_per_ms = 0.5, 1.0, 0.6
    mean_ms = median_ms * np.exp(spread**2 / 2.0)
    square = median_ms**2 * np.exp(2.0 * spread**2)
    subject = scenario(
        kind((median_ms, 0.8)), rate_per_s=600.0, requests=20_000, noise=spread, budgets=PATIENT
    )

    found = simulate(subject, first_arm)

    expected_ms = rate_per_ms * square / (2.0 * (1.0 - rate_per_ms * mean_ms))
    assert found.wait_ms.mean() == pytest.approx(expected_ms, rel=0.08)


def test_regular_arrivals_below_capacity_never_wait() -> None:
    """Two slots of 1 ms take 1,900 evenly spaced requests a second without a queue."""
    subject = scenario(
        kind((1.0, 0.8), slots=2, hop_ms=0.01, reply_ms=0.3),
        rate_per_s=1900.0,
        arrivals=Arrivals(Process.CONSTANT),
        noise=0.0,
        budgets=PATIENT,
    )

    found = simulate(subject, first_arm)

    assert found.wait_ms.max() == pytest.approx(0.0, abs=1e-6)
    assert found.latency_ms == pytest.approx(np.full(1000, 1.31))


@settings(max_examples=15, deadline=None)
@given(
    policy=st.sampled_from(["priced", "static", "queue-aware", "late-binding"]),
    load=st.floats(0.2, 4.0),
    seed=st.integers(0, 10_000),
    on_miss=st.sampled_from(OnMiss),
    fault=st.sampled_from([None, "slow=3", "gone@20-50/0", "gone@20-50", "skew", "neighbour"]),
    process=st.sampled_from([Process.POISSON, Process.GAMMA, Process.MMPP]),
)
def test_every_request_ends_once(
    *, policy: str, load: float, seed: int, on_miss: OnMiss, fault: str | None, process: Process
) -> None:
    """Whatever policy, load, arrivals and fault: ends add up, and answers say who gave them."""
    cluster = Cluster.of(kind(*THREE, name="a", slots=2), kind(*THREE, name="b"))
    subject = Scenario(
        cluster,
        rate_at(cluster, load),
        150,
        seed=seed,
        arrivals=Arrivals(process),
        max_queue=16,
        faults=() if fault is None else (parse_fault(fault),),
        on_miss=on_miss,
    )

    found = simulate(subject, POLICIES[policy])

    counts = np.bincount(found.outcome, minlength=len(OUTCOMES))
    answered = found.is_(Outcome.ON_TIME, Outcome.LATE)
    assert counts.sum() == subject.requests
    assert (found.arm[answered] >= 0).all()
    assert (found.device[answered] >= 0).all()
    assert not np.isnan(found.latency_ms[answered]).any()
    assert np.isnan(found.promised[found.is_(Outcome.REFUSED)]).all()
    deadline_met = found.latency_ms <= found.offered.budgets_ms + 1e-9
    assert (deadline_met == found.on_time).all()
    assert (found.busy_ms >= 0.0).all()


def test_the_same_seed_gives_the_same_run() -> None:
    """Not one figure differs between two runs of a scenario."""
    subject = scenario(kind(*THREE, spread=0.1, slots=2), requests=500, seed=3)

    assert same(simulate(subject, POLICIES["priced"]), simulate(subject, POLICIES["priced"]))


def test_another_seed_gives_another_run() -> None:
    """Seeds decide arrivals, budgets and noise."""
    subject = scenario(kind(*THREE, spread=0.1), requests=500, seed=3)
    other = dataclasses.replace(subject, seed=4)

    assert not same(simulate(subject, first_arm), simulate(other, first_arm))


def test_run_times_do_not_depend_on_the_policy() -> None:
    """A request that two policies run alone on the same arm takes the same time under both."""
    subject = scenario(
        kind(*THREE, spread=0.3, slots=2), rate_per_s=300.0, budgets=parse_budgets("1@3-15")
    )

    one = simulate(subject, first_arm)
    other = simulate(subject, POLICIES["late-binding"])

    both = (one.arm == other.arm) & (one.arm >= 0)
    taken_ms = [(run.latency_ms - run.wait_ms)[both] for run in (one, other)]
    assert both.any()
    assert taken_ms[0] == pytest.approx(taken_ms[1])


def test_progress_reaches_the_end() -> None:
    """What is told last is that everything has come."""
    told: list[tuple[int, int]] = []

    simulate(
        scenario(kind((1.0, 0.8)), requests=777),
        first_arm,
        progress=lambda done, n: told.append((done, n)),
    )

    assert told == sorted(told)
    assert 770 <= told[-1][0] <= 777


def test_a_batch_takes_one_inference() -> None:
    """Two requests that wait together on one slot are answered at the same moment."""
    batched = with_batches(kind((1.0, 0.8)), {1: 1.0, 2: 1.5, 4: 2.0})
    subject = scenario(
        batched, rate_per_s=5000.0, requests=200, noise=0.0, budgets=PATIENT, max_queue=400
    )

    found = simulate(subject, lambda _: OneArm(batch=4))

    ends_ms = found.offered.arrivals_ms + found.latency_ms
    runs, sizes = np.unique(ends_ms.round(6), return_counts=True)
    assert set(found.batch) >= {4}
    assert sizes.max() == 4
    assert found.busy_ms.sum() < 0.75 * len(ends_ms)
    assert len(runs) < len(ends_ms) / 3


def test_a_slow_device_takes_longer_only_while_it_is_slow() -> None:
    """Runs that start within the fault take three times as long, the others as profiled."""
    subject = scenario(
        kind((1.0, 0.8)),
        rate_per_s=100.0,
        noise=0.0,
        budgets=PATIENT,
        arrivals=Arrivals(Process.CONSTANT),
        faults=(parse_fault("slow=3@30-60"),),
    )

    found = simulate(subject, first_arm)

    share = found.offered.arrivals_ms / found.offered.horizon_ms
    inside = (share >= 0.3) & (share < 0.6)
    assert found.latency_ms[inside] == pytest.approx(3.0)
    assert found.latency_ms[~inside] == pytest.approx(1.0)


def test_work_of_a_device_that_goes_is_done_by_the_other() -> None:
    """While one of two devices is gone the other serves everything; later both do again."""
    subject = scenario(
        kind((1.0, 0.8), name="a"),
        kind((1.0, 0.8), name="b"),
        rate_per_s=300.0,
        requests=2000,
        budgets=PATIENT,
        faults=(parse_fault("gone@40-70/0"),),
    )

    found = simulate(subject, POLICIES["queue-aware"])

    share = found.offered.arrivals_ms / found.offered.horizon_ms
    assert found.on_time.all()
    assert set(found.device[(share > 0.4) & (share < 0.69)]) == {1}
    assert set(found.device[share < 0.39]) == set(found.device[share > 0.71]) == {0, 1}


def test_nothing_is_served_while_the_only_device_is_gone() -> None:
    """Requests that come meanwhile are refused, and service goes on when it is back."""
    subject = scenario(
        kind((1.0, 0.8)),
        rate_per_s=100.0,
        budgets=PATIENT,
        faults=(parse_fault("gone@40-70"),),
    )

    found = simulate(subject, first_arm)

    share = found.offered.arrivals_ms / found.offered.horizon_ms
    gone = (share > 0.41) & (share < 0.69)
    assert found.is_(Outcome.REFUSED)[gone].all()
    assert found.on_time[share > 0.71].all()


def test_a_device_that_is_gone_is_not_busy() -> None:
    """An overloaded slot works whenever its device is there, also on what is then lost."""
    subject = scenario(
        kind((9.0, 0.8)),
        rate_per_s=200.0,
        noise=0.0,
        budgets=PATIENT,
        max_queue=2000,
        faults=(parse_fault("gone@40-70"),),
    )

    found = simulate(subject, first_arm)

    gone_ms = 0.3 * found.offered.horizon_ms
    assert found.busy_ms.sum() == pytest.approx(found.horizon_ms - gone_ms, rel=0.01)


def test_late_answers_are_no_answers_past_the_late_limit() -> None:
    """Requests that take late answers are late first and expired in a hopeless queue."""
    subject = scenario(
        kind((10.0, 0.8)),
        rate_per_s=2000.0,
        requests=2000,
        budgets=parse_budgets("1@20"),
        on_miss=OnMiss.DEGRADE,
        noise=0.0,
        max_queue=10_000,
    )

    found = simulate(subject, first_arm)

    assert found.is_(Outcome.LATE).any()
    assert found.is_(Outcome.EXPIRED).any()
    assert found.latency_ms[found.is_(Outcome.LATE)].max() <= 1020.0 + 10.0


def test_refusing_what_an_idle_device_could_serve_is_avoidable() -> None:
    """With idle slots every refusal of a budget above the run time need not have been."""
    subject = scenario(kind((1.0, 0.8)), rate_per_s=50.0, budgets=parse_budgets("0.5@0.5,0.5@20"))

    found = simulate(subject, unwilling)

    assert found.is_(Outcome.REFUSED).all()
    assert (found.avoidable == (found.offered.budgets_ms > 1.0)).all()


def test_refusing_what_nothing_could_serve_is_not_avoidable() -> None:
    """A budget below the fastest run cannot be met by anybody."""
    subject = scenario(kind((5.0, 0.8)), budgets=parse_budgets("1@1-4"), requests=200)

    found = simulate(subject, POLICIES["queue-aware"])

    assert found.is_(Outcome.REFUSED).all()
    assert not found.avoidable.any()


def test_a_wrong_profile_changes_what_is_believed_not_what_happens() -> None:
    """Told half the truth, the router promises too much; run times stay as they are."""
    honest = scenario(kind(*THREE), rate_per_s=20.0, requests=300, budgets=parse_budgets("1@6"))
    fooled = dataclasses.replace(honest, faults=(parse_fault("profile=0.5"),))

    truth = simulate(honest, POLICIES["queue-aware"])
    lies = simulate(fooled, POLICIES["queue-aware"])

    assert truth.on_time.all()
    assert not lies.on_time[:20].all()
    assert fooled.faults[0].kind is FaultKind.PROFILE


def test_offered_requests_can_be_drawn_once_for_many_policies() -> None:
    """A run on requests that were drawn before equals one that draws them itself."""
    subject = scenario(kind(*THREE), requests=300)

    assert same(simulate(subject, first_arm, offered=offer(subject)), simulate(subject, first_arm))


def test_kinds_of_one_name_are_told_apart_in_a_node() -> None:
    """Two equal devices of a node both work, each under a name of its own."""
    twin: Kind = kind((1.0, 0.8))

    found = simulate(scenario(twin, twin, rate_per_s=1500.0, budgets=PATIENT), first_arm)

    assert set(found.device) == {0, 1}
