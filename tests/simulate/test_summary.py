import numpy as np
import pytest

from mnv4serve.domain import OnMiss, Outcome
from mnv4serve.router.policies import POLICIES
from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.budgets import parse_budgets
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.summary import (
    arm_mix,
    calibration,
    calibration_error,
    document,
    over_time,
    summarise,
)
from tests.simulate.builders import PATIENT, first_arm, kind, scenario, unwilling

MIXED = parse_budgets("0.5@0.5,0.5@50")


def test_figures_follow_from_the_records() -> None:
    """Half of the requests can be met by the only arm, at a tenth of capacity."""
    subject = scenario(kind((1.0, 0.8)), rate_per_s=100.0, noise=0.0, budgets=MIXED)
    met = 0.5

    found = summarise(simulate(subject, POLICIES["queue-aware"]), "mine")

    assert found.policy == "mine"
    assert found.on_time_share == pytest.approx(met, abs=0.05)
    assert found.effective_accuracy == pytest.approx(0.8 * found.on_time_share)
    assert found.mean_accuracy == pytest.approx(0.8)
    assert found.refused_share == pytest.approx(1.0 - found.on_time_share)
    assert found.goodput_per_s == pytest.approx(100.0 * found.on_time_share, rel=0.01)
    assert found.utilisation == pytest.approx(0.1 * found.on_time_share, rel=0.02)
    assert found.p50_ms == pytest.approx(1.0, abs=0.01)
    assert found.promise_kept_share == 1.0


def test_shares_add_up() -> None:
    """Every request is on time, late, refused, expired or shed."""
    subject = scenario(kind((2.0, 0.8)), rate_per_s=800.0, on_miss=OnMiss.DEGRADE, requests=3000)

    found = summarise(simulate(subject, POLICIES["late-binding"]), "")

    parts = (found.late_share, found.refused_share, found.expired_share, found.shed_share)
    assert found.on_time_share + sum(parts) == pytest.approx(1.0)
    assert found.late_share > 0.0


def test_where_nothing_is_answered_there_is_no_latency() -> None:
    """Means over nothing are left empty."""
    found = summarise(simulate(scenario(kind((1.0, 0.8))), unwilling), "")

    assert found.on_time_share == 0.0
    assert found.effective_accuracy == 0.0
    empty = (found.mean_accuracy, found.p50_ms, found.p99_ms, found.promise_kept_share)
    assert empty == (None, None, None, None)
    assert found.calibration_error is None


def test_the_document_holds_what_callers_read() -> None:
    """The fields that the command promises are there under their names."""
    found = document(summarise(simulate(scenario(kind((1.0, 0.8))), first_arm), "static"))

    promised = {"policy", "effective_accuracy", "on_time_share", "p50_ms", "p99_ms"}
    assert promised | {"refused_share"} <= set(found)


def test_calibration_compares_promises_with_what_came_true() -> None:
    """Bins hold equally many requests, lowest probability first, and refusals are left out."""
    subject = scenario(kind((1.0, 0.8), spread=0.5), rate_per_s=600.0, requests=4000)
    records = simulate(subject, first_arm)

    bins = calibration(records, bins=8)

    admitted = int((~records.is_(Outcome.REFUSED)).sum())
    assert sum(found.n for found in bins) == admitted
    assert max(found.n for found in bins) - min(found.n for found in bins) <= 1
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    assert calibration_error(records) == pytest.approx(0.0, abs=0.1)
    some = calibration(records, records.offered.budgets_ms < 20.0)
    assert sum(found.n for found in some) < admitted


def test_slices_show_a_burst() -> None:
    """The second half of a step is three times as dense, and shares are of its own requests."""
    subject = scenario(
        kind((1.0, 0.8)), arrivals=Arrivals(Process.STEP), requests=4000, budgets=PATIENT
    )

    found = over_time(simulate(subject, first_arm), slices=10)

    rates = [part.offered_per_s for part in found]
    assert np.mean(rates[5:]) == pytest.approx(3.0 * np.mean(rates[:5]), rel=0.1)
    assert all(sum(part.arms.values()) == pytest.approx(1.0) for part in found)
    assert all(part.on_time_share == 1.0 for part in found)


def test_the_mix_names_the_arms_that_ran() -> None:
    """Most used first; an arm that never ran is not in it."""
    subject = scenario(kind((1.0, 0.7), (5.0, 0.8)), rate_per_s=20.0, budgets=PATIENT)

    assert arm_mix(simulate(subject, first_arm)) == {"v0/cpu/int8/cpu": 1.0}
