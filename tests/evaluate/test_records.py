from pathlib import Path

from loadtests.evaluate.records import Bound, Findings, Moment, Reliability, load
from tests.evaluate.made_up import CONDITION, runs


def test_findings_survive_the_file(tmp_path: Path) -> None:
    """What is read again equals what was written, so that a report can be made of it."""
    findings = Findings(
        made_by={"machine": "one"},
        results=runs("priced", 0.8),
        bounds=[Bound(CONDITION, 0, 0.85)],
        ablations=runs("without price", 0.7),
        reliability=[Reliability("simulator", "load 0.3", 0.01, ((0.5, 0.51, 10),))],
        burst=[Moment("priced", 0.5, 900.0, 0.8, 1.0, {"a": 1.0})],
        jitter={"late": 0.1},
        notes=["no trace"],
    )
    path = tmp_path / "deep" / "findings.json"

    findings.save(path)

    assert load(path) == findings
