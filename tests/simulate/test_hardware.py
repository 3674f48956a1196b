import pytest

from mnv4serve.router.decode_cost import DecodeCost
from mnv4serve.simulate.hardware import TYPICAL, Cluster, Node
from tests.simulate.builders import kind, with_batches


def test_load_one_is_the_arm_in_the_middle() -> None:
    """The lower middle of the frontier; an arm that another beats does not count."""
    subject = kind((1.0, 0.7), (2.0, 0.8), (3.0, 0.75), (4.0, 0.85), (8.0, 0.9), slots=2)

    assert subject.reference_arm().variant == "v1"
    assert subject.capacity_per_s() == pytest.approx(1000.0)
    assert subject.capacity_per_s(subject.arms[0]) == pytest.approx(2000.0)


def test_slot_time_counts_hop_and_decoding() -> None:
    """What keeps a slot from other work is inference and everything around it."""
    subject = kind((1.0, 0.7), hop_ms=0.25, decode=DecodeCost(0.5, 0.0, 0.0, 0.0, 0.0))

    assert subject.slot_ms(subject.arms[0], TYPICAL) == pytest.approx(1.75)


def test_a_batch_runs_in_the_next_larger_size() -> None:
    """Three requests take what four were profiled at."""
    subject = with_batches(kind((1.0, 0.7)), {1: 1.0, 2: 1.5, 4: 2.5})
    arm_id = subject.arms[0].id

    assert [subject.service_ms(arm_id, n) for n in (1, 2, 3, 4)] == [1.0, 1.5, 2.5, 2.5]
    assert subject.largest_batch(arm_id) == 4


def test_clusters_add_up() -> None:
    """Capacity is that of all devices of all nodes."""
    small, large = kind((1.0, 0.7), name="a"), kind((1.0, 0.7), name="b", slots=3)

    assert Cluster.of(small, large, replicas=2).capacity_per_s() == pytest.approx(8000.0)
    assert len(Cluster.of(small, large, replicas=2).devices) == 4


def test_equal_devices_get_names_of_their_own() -> None:
    """Arms of two devices of one kind differ; a device that is alone keeps its name."""
    twin, other = kind((1.0, 0.7), name="gpu"), kind((1.0, 0.7), name="cpu")

    found = Node((twin, other, twin)).named_devices()

    assert [device.arms[0].device for device in found] == ["gpu:0", "cpu", "gpu:1"]
    assert all(set(device.timings) == {arm.id for arm in device.arms} for device in found)
