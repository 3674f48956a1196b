"""What the documents of the HTTP interface say of devices."""

from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.serving.documents import readiness_document
from mnv4serve.serving.frontier import LiveView, PoolView
from tests.fakes import LIVE


def test_readiness_marks_what_is_simulated_and_tells_what_is_hot() -> None:
    """Every device that takes work, with nothing said of it that does not hold."""
    pools = (
        PoolView("cpu", 2, 0, 0, 1.0),
        PoolView("edgetpu:simulated-usb3", 1, 0, 0, 1.0, simulated=True),
        PoolView("edgetpu:0", 1, 0, 0, 1.0, heat=Heat(91.0, (85.0,))),
    )

    document = readiness_document(LiveView((), pools, LIVE.recent))

    assert document["state"] == "ready"
    assert document["devices"] == [
        {"device": "cpu"},
        {"device": "edgetpu:simulated-usb3", "simulated": True},
        {"device": "edgetpu:0", "celsius": 91.0, "clock_ratio": 0.5},
    ]
