"""Alert rules and the dashboard ask for what the service exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deployments.exported import exported

FOLDER = Path(__file__).parents[2] / "deployments" / "monitoring"
RULES = FOLDER / "rules.yaml"
DASHBOARD = FOLDER / "grafana" / "mnv4serve.json"
NAME = re.compile(r"\bmnv4serve_\w+")


def _expressions() -> dict[str, str]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = {
        rule.get("alert") or rule["record"]: rule["expr"]
        for group in groups
        for rule in group["rules"]
    }
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel["targets"]
    }
    return rules | asked


@pytest.mark.parametrize(("name", "expression"), _expressions().items())
def test_what_is_asked_for_is_exported(name: str, expression: str) -> None:
    """Every metric in a rule or a panel is one that the service has."""
    unknown = set(NAME.findall(expression)) - exported()

    assert not unknown, f"{name} asks for {unknown}"


def test_the_rules_hold_their_own_tests() -> None:
    """promtool plays series against the alerts and finds what they should say."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")

    for command in (
        ["check", "rules", str(RULES)],
        ["test", "rules", str(FOLDER / "rules_test.yaml")],
    ):
        ended = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_says_what_to_do() -> None:
    """An alert names the trouble and the next step."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]

    assert alerts
    for alert in alerts:
        assert {"summary", "what_to_do"} <= alert["annotations"].keys(), alert["alert"]
