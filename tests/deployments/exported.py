"""The names of everything that the service exports."""

from mnv4serve.domain import Outcome
from mnv4serve.metrics import Metrics, PrometheusSink
from tests.test_metrics import served


def exported() -> set[str]:
    metrics = Metrics()
    metrics.describe_build(version="1", zoo="z", engine="local")
    metrics.watch_device(
        "cpu", queue_depth=lambda: 0.0, slowdown=lambda: 1.0, up=lambda: 1.0, simulated=False
    )
    metrics.observe(served(Outcome.ON_TIME))
    metrics.observe(served(Outcome.REFUSED, plan=None, stages=None, refused_reason="busy"))
    assert isinstance(metrics.sink, PrometheusSink)
    return {sample.name for family in metrics.sink.registry.collect() for sample in family.samples}
