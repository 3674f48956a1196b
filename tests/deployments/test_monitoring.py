"""Alert rules and the dashboard ask for what the service exports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mnv4serve.errors import code, leaves
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


def test_the_autoscaler_counts_reasons_that_exist() -> None:
    """A reason that is none of the error classes would never be counted."""
    reasons = re.findall(r'reason=~"([a-z_|]+)"', (FOLDER / "adapter.yaml").read_text("utf-8"))

    (asked,) = reasons
    assert set(asked.split("|")) <= {code(kind) for kind in leaves()}


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


@pytest.mark.parametrize("config", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
def test_names_of_the_ray_engine_become_those_of_the_rules(config: str) -> None:
    """Scraping takes Ray's prefix off our metrics, and leaves Ray's own alone."""
    jobs = yaml.safe_load((FOLDER / config).read_text(encoding="utf-8"))["scrape_configs"]
    (rename,) = (
        step
        for job in jobs
        for step in job["metric_relabel_configs"]
        if step.get("target_label") == "__name__"
    )
    expression = re.compile(rename["regex"])

    assert rename["replacement"] == "$1"
    for name in exported():
        assert expression.fullmatch(name) is None
        found = expression.fullmatch(f"ray_{name}")
        assert found is None or found[1] == name
        assert (found is None) == (not name.startswith("mnv4serve_"))
    assert expression.fullmatch("ray_serve_num_http_requests") is None


@pytest.mark.parametrize("config", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
def test_prometheus_takes_the_configuration(config: str, tmp_path: Path) -> None:
    """Every key is known; Debian's build cannot look for pods, so that key is left out."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")

    written = yaml.safe_load((FOLDER / config).read_text(encoding="utf-8"))
    for job in written["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)
    assert written["rule_files"] == [RULES.name]
    shutil.copy(RULES, tmp_path)
    (tmp_path / config).write_text(yaml.safe_dump(written), encoding="utf-8")

    command = [promtool, "check", "config", str(tmp_path / config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_says_what_to_do() -> None:
    """An alert names the trouble and the next step."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]

    assert alerts
    for alert in alerts:
        assert {"summary", "what_to_do"} <= alert["annotations"].keys(), alert["alert"]
