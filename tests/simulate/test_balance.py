import dataclasses

import numpy as np

from mnv4serve.simulate.engine import simulate
from mnv4serve.simulate.faults import parse_fault
from mnv4serve.simulate.hardware import Cluster, Node
from mnv4serve.simulate.scenario import Scenario
from tests.simulate.builders import PATIENT, first_arm, kind

ONE = kind((1.0, 0.8))


def test_two_choices_keep_queues_short() -> None:
    """At 80 % load ten nodes wait far less than ten queues fed at random would."""
    subject = Scenario(Cluster.of(ONE, replicas=10), 8000.0, 8000, budgets=PATIENT, noise=0.0)

    found = simulate(subject, first_arm)

    waiting_at_random_ms = 0.8 / (2 * 0.2)
    assert found.wait_ms.mean() < 0.5 * waiting_at_random_ms
    assert len(set(found.device)) == 10


def test_larger_nodes_get_more() -> None:
    """A node with three times the slots serves about three times as much."""
    large = dataclasses.replace(ONE, slots=3)
    subject = Scenario(
        Cluster((Node((ONE,)), Node((large,)))), 2000.0, 4000, budgets=PATIENT, noise=0.0
    )

    served = np.bincount(simulate(subject, first_arm).device)

    assert 2.0 < served[1] / served[0] < 4.0


def test_a_node_without_devices_is_passed_over() -> None:
    """While one node of two is down the other takes everything."""
    subject = Scenario(
        Cluster.of(ONE, replicas=2),
        500.0,
        1000,
        budgets=PATIENT,
        faults=(parse_fault("gone@20-80/1"),),
    )

    found = simulate(subject, first_arm)

    share = found.offered.arrivals_ms / found.offered.horizon_ms
    assert set(found.device[(share > 0.21) & (share < 0.79)]) == {0}
