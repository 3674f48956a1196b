"""What a node's event loop costs: admissions and replies one by one, on the cores of the slots."""

import numpy as np
import pytest

from mnv4serve.simulate.arrivals import Arrivals, Process
from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.hardware import Cluster, Kind, Loop
from mnv4serve.simulate.records import Records
from mnv4serve.simulate.scenario import Scenario
from tests.simulate.builders import PATIENT, first_arm, kind

LOOP = Loop(admit_ms=0.2, reply_ms=0.1)


def played(subject: Kind, *, every_ms: float, loop: Loop = LOOP, requests: int = 200) -> Records:
    """Evenly spaced requests with patience, without noise."""
    asked = Scenario(
        Cluster.of(subject, loop=loop),
        1000.0 / every_ms,
        requests,
        arrivals=Arrivals(Process.CONSTANT),
        noise=0.0,
        budgets=PATIENT,
    )
    return simulate(asked, first_arm)


def test_an_idle_node_adds_admission_and_reply() -> None:
    """Nobody else is there: the loop's two pieces stand before and after the run."""
    found = played(kind((1.0, 0.8), slots=2), every_ms=10.0)

    assert found.latency_ms == pytest.approx(np.full(200, 1.3))


def test_while_every_slot_runs_the_loop_takes_its_time_from_them() -> None:
    """One slot that is never idle: in the long run each request costs its run and the loop's."""
    found = played(kind((1.0, 0.8)), every_ms=0.5)

    assert found.horizon_ms / 200 == pytest.approx(1.3, rel=0.02)
    assert found.busy_ms.sum() / 200 == pytest.approx(1.3, rel=0.02)


def test_a_slot_that_is_idle_lends_the_loop_its_core() -> None:
    """One of two slots runs at a time, so that no run is interrupted."""
    found = played(kind((1.0, 0.8), slots=2), every_ms=1.1)

    assert found.busy_ms.sum() == pytest.approx(200 * 1.0)


def test_the_loop_does_one_thing_after_another() -> None:
    """However many slots there are, no more requests get through than the loop can carry."""
    found = played(kind((1.0, 0.8), slots=50), every_ms=0.1, requests=1000)

    ends_ms = found.offered.arrivals_ms + found.latency_ms
    assert ends_ms.max() == pytest.approx(1000 * 0.3, rel=0.02)


def test_capacity_counts_the_loop() -> None:
    """At load 1 slots and loop together keep every core busy."""
    subject = kind((0.7, 0.8), slots=2)

    assert Cluster.of(subject, loop=LOOP).capacity_per_s() == pytest.approx(2000.0)


def test_a_router_is_told_one_profile_while_another_is_true() -> None:
    """Promises follow what it was told, latencies what is true."""
    told = kind((1.0, 0.8)).timings
    subject = kind((3.0, 0.8), told=told)

    found = played(subject, every_ms=10.0, loop=Loop())

    assert found.latency_ms == pytest.approx(np.full(200, 3.0))
    assert subject.capacity_per_s() == pytest.approx(1000.0 / 3.0)
