from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv4serve.router.policies import POLICIES
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.hardware import Cluster
from mnv4serve.simulate.hindsight import Hindsight, Looking, exact
from mnv4serve.simulate.scenario import offer
from mnv4serve.simulate.tables import load_table
from tests.simulate.builders import OneArm, kind, scenario, with_batches

pytest.importorskip("scipy", reason="the bound needs the extra simulate")
from mnv4serve.simulate.oracle import upper_bound, window_bound

THREE = ((1.0, 0.7), (3.0, 0.8), (9.0, 0.9))


def tiny(
    *requests: tuple[float, float], arms: tuple[tuple[float, float], ...] = THREE, slots: int = 1
) -> Hindsight:
    """Requests as pairs of release and budget, on one kind without noise."""
    release = np.array([release for release, _ in requests])
    budgets = np.array([budget for _, budget in requests])
    times = np.array([ms for ms, _ in arms])
    return Hindsight(
        release_ms=release,
        due_ms=(release + budgets)[:, None],
        slot_ms=np.tile(times, (len(requests), 1)),
        accuracy=np.array([accuracy for _, accuracy in arms]),
        kind=np.zeros(len(arms), dtype=np.int64),
        slots=(slots,),
    )


def every_schedule(seen: Hindsight) -> float:
    """The best value over all orders, arms and omissions on one slot, one by one."""

    def best(left: frozenset[int], free_ms: float) -> float:
        found = 0.0
        for request in left:
            start_ms = max(free_ms, float(seen.release_ms[request]))
            for column, accuracy in enumerate(seen.accuracy):
                end_ms = start_ms + float(seen.slot_ms[request, column])
                if end_ms <= seen.due_ms[request, 0]:
                    found = max(found, float(accuracy) + best(left - {request}, end_ms))
        return found

    return best(frozenset(range(len(seen.release_ms))), -1.0)


requests = st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.5, 15.0)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(requests)
def test_exact_is_the_best_of_all_schedules(drawn: list[tuple[float, float]]) -> None:
    """On one slot it equals trying everything."""
    seen = tiny(*sorted(drawn))

    assert exact(seen) == pytest.approx(every_schedule(seen))


@settings(max_examples=40, deadline=None)
@given(requests, st.integers(1, 2))
def test_the_bound_is_never_below_the_best_schedule(
    drawn: list[tuple[float, float]], slots: int
) -> None:
    """With few cells or many, on one slot or two."""
    seen = tiny(*sorted(drawn), slots=slots)
    best = exact(seen)

    fine, coarse = window_bound(seen, cells=500), window_bound(seen, cells=7)

    assert best <= fine + 1e-6
    assert fine <= coarse + 1e-6


@pytest.mark.parametrize(
    ("seen", "value"),
    [
        (tiny((0.0, 100.0), (0.0, 100.0)), 1.8),
        (tiny((0.0, 0.9)), 0.0),
        (tiny((0.0, 3.0)), 0.8),
        (tiny((0.0, 9.0), (0.0, 9.0), slots=2), 1.8),
        (tiny((0.0, 5.0), (20.0, 5.0), (40.0, 5.0)), 2.4),
    ],
)
def test_the_bound_is_exact_where_nothing_competes(seen: Hindsight, value: float) -> None:
    """With room for all, or none for any, relaxing gains nothing."""
    assert exact(seen) == pytest.approx(value)
    assert window_bound(seen) == pytest.approx(value, abs=1e-6)


def test_scarce_time_goes_to_where_it_is_worth_most() -> None:
    """Two requests in 2 ms get one cheap run each, not one of them a better one."""
    assert exact(tiny((0.0, 2.0), (0.0, 2.0))) == pytest.approx(1.4)
    assert exact(tiny((0.0, 3.0), (0.0, 3.0))) == pytest.approx(1.4)
    assert exact(tiny((0.0, 4.0), (0.0, 4.0))) == pytest.approx(1.5)


def test_kinds_have_deadlines_and_slots_of_their_own() -> None:
    """A reply that takes long makes a device useless for short budgets."""
    near, far = kind((1.0, 0.7), name="near"), kind((1.0, 0.9), name="far", reply_ms=5.0)
    subject = scenario(near, far, noise=0.0, requests=6, budgets=parse_budgets("1@4"))

    seen = Looking(subject, offer(subject)).at(0, 6)

    assert seen.slots == (1, 1)
    assert seen.fits.tolist() == [[True, False]] * 6
    assert exact(seen) <= 6 * 0.7 + 1e-9


@pytest.mark.parametrize(
    ("policy", "process", "rate"),
    [
        *((name, Process.POISSON, 900.0) for name in POLICIES if name != "ramsis"),
        ("priced", Process.GAMMA, 400.0),
        ("late-binding", Process.GAMMA, 400.0),
    ],
)
def test_no_policy_exceeds_the_bound(policy: str, process: Process, rate: float) -> None:
    """Not on the prototype's arms, calm or bursty, in one window or in several.

    Ramsis is left out: its tables take longer to make than all others take together.
    """
    subject = scenario(
        load_table("prototype"), rate_per_s=rate, requests=300, arrivals=Arrivals(process)
    )

    reached = simulate(subject, POLICIES[policy]).value.mean()

    assert reached <= upper_bound(subject) + 1e-6
    assert reached <= upper_bound(subject, window=100) + 1e-6


def test_smaller_windows_only_loosen_the_bound() -> None:
    """Each window may have all slots, whatever the others do at the same time."""
    subject = scenario(load_table("prototype"), rate_per_s=900.0, requests=400)

    whole, parts = upper_bound(subject), upper_bound(subject, window=100)

    assert whole <= parts + 1e-6


def test_batches_stay_below_the_bound() -> None:
    """Runs of four that take as long as two do not beat what the bound allows."""
    one = with_batches(kind((1.0, 0.8), (2.0, 0.9), hop_ms=0.2), {1: 1.0, 4: 2.0}, spread=0.1)
    subject = scenario(one, rate_per_s=1500.0, requests=500, budgets=parse_budgets("1@20"))

    reached = simulate(subject, lambda _: OneArm(1, batch=4)).value.mean()

    assert 0.5 < reached <= upper_bound(subject) + 1e-6


def test_nodes_are_taken_together() -> None:
    """Two nodes of one slot bound what one node of two could do."""
    one = kind(*THREE)
    apart = replace(scenario(one, requests=100), cluster=Cluster.of(one, replicas=2))
    together = scenario(kind(*THREE, slots=2), requests=100)

    assert upper_bound(apart) == pytest.approx(upper_bound(together))
