"""`mnv4serve simulate` as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mnv4serve.cli import app
from mnv4serve.errors import BadConfig
from mnv4serve.router.policies import POLICIES

ARM = '[[arms]]\nvariant = "a"\naccuracy = 0.8\nservice.1 = { p50_ms = 1.0, p90_ms = 1.1 }\n'


def simulated(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *arguments])


def document(*arguments: str) -> Any:  # noqa: ANN401  # any JSON
    found = simulated(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def table(tmp_path: Path, name: str, *, slots: int = 1) -> str:
    path = tmp_path / f"{name}.toml"
    path.write_text(f'name = "{name}"\nslots = {slots}\n{ARM}', encoding="utf-8")
    return str(path)


def test_the_document_has_one_entry_a_policy() -> None:
    """`--policy all` runs every policy on the same requests and names what was simulated."""
    found = document("--policy", "all", "--requests", "60", "--profile", "prototype")

    fields = {"policy", "effective_accuracy", "on_time_share", "p50_ms", "p99_ms", "refused_share"}
    assert [entry["policy"] for entry in found["policies"]] == list(POLICIES)
    assert all(fields <= set(entry) for entry in found["policies"])
    assert found["scenario"]["load"] == pytest.approx(1.0)
    assert found["scenario"]["requests"] == 60


def test_the_same_seed_prints_the_same_figures() -> None:
    """Only the processor time differs."""
    one, other = (document("--requests", "200", "--seed", "7")["policies"][0] for _ in range(2))

    assert one.pop("decision_us") > 0.0
    assert other.pop("decision_us") > 0.0
    assert one == other


def test_several_policies_come_as_a_table() -> None:
    """Best first, with the rate that the load comes to."""
    found = simulated("--policy", "priced, static", "--requests", "100", "--load", "0.5")

    assert found.exit_code == 0, found.output
    assert "load 0.50" in found.stdout
    assert all(name in found.stdout for name in ("priced", "static", "effective accuracy"))


def test_the_bound_is_above_every_policy() -> None:
    """With --bound the document says what nothing could exceed."""
    pytest.importorskip("scipy", reason="the bound needs the extra simulate")

    found = document("--policy", "priced,late-binding", "--requests", "200", "--bound")

    best = max(policy["effective_accuracy"] for policy in found["policies"])
    assert best <= found["upper_bound"] + 1e-6


def test_every_option_of_a_scenario_is_used(tmp_path: Path) -> None:
    """Arrivals, budgets, faults, devices and replicas reach the simulation."""
    trace = tmp_path / "trace.txt"
    trace.write_text("5 10 20 40", encoding="utf-8")

    found = document(
        *("--trace", str(trace), "--budgets", "1@20", "--fault", "slow=2", "--fault", "gone@50-60"),
        *("--profile", table(tmp_path, "a"), "--profile", table(tmp_path, "b")),
        *("--replicas", "2", "--rate", "900", "--requests", "300", "--on-miss", "degrade"),
    )

    assert found["scenario"]["arrivals"] == "trace"
    assert found["scenario"]["devices"] == ["a", "b", "a", "b"]
    assert found["scenario"]["budgets"] == "1@20-20"
    assert found["scenario"]["on_miss"] == "degrade"
    assert found["policies"][0]["refused_share"] < 0.1


def test_long_runs_show_how_far_they_are() -> None:
    """On stderr, so that stdout stays one document."""
    found = simulated("--requests", "31000", "--policy", "static", "--load", "0.1", "--json")

    assert "simulating: static" in found.stderr
    assert json.loads(found.stdout)


def test_plan_names_the_smallest_fleet(tmp_path: Path) -> None:
    """The document holds the answer and every other fleet that would do."""
    found = document(
        *("--plan", "--rate", "3500", "--budgets", "1@20", "--target", "0.95"),
        *("--profile", table(tmp_path, "small"), "--profile", table(tmp_path, "large", slots=4)),
        *("--cost", "large=9", "--requests", "1500", "--policy", "late-binding"),
    )

    assert found["plan"]["counts"]["small"] in {4, 5}
    assert found["plan"]["counts"]["large"] == 0
    assert found["plan"]["at_least"] >= 0.95
    assert found["plan"] in found["enough"]


def test_plan_shows_what_was_tried(tmp_path: Path) -> None:
    """A table of fleets and one sentence with the answer and its confidence."""
    found = simulated(
        *("--plan", "--rate", "1500", "--budgets", "1@20", "--target", "0.95"),
        *("--profile", table(tmp_path, "box"), "--requests", "900", "--policy", "late-binding"),
    )

    assert found.exit_code == 0, found.output
    assert "2 x box" in found.stdout
    assert "95 % confidence" in found.stdout.replace("\n", " ")


def test_this_machine_can_be_simulated(tiny_environment: dict[str, str]) -> None:
    """`--profile host` takes the profile of the state folder, a stored one by its path as well."""
    folder = Path(tiny_environment["MNV4SERVE_STATE_DIR"]) / "profiles"
    stored = next(folder.glob("*.json"))
    options = (
        *("--models", tiny_environment["MNV4SERVE_MODELS"]),
        *("--state-dir", tiny_environment["MNV4SERVE_STATE_DIR"]),
        *("--requests", "100", "--load", "0.3"),
    )

    found = [document(*options, "--profile", name) for name in ("host", str(stored))]

    assert found[0]["scenario"]["devices"] == ["cpu"]
    assert found[1]["scenario"]["devices"] == [stored.stem]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--load", "-1"), "a load of -1"),
        (("--load", "nan"), "a load of nan"),
        (("--rate", "0"), "a rate of 0"),
        (("--requests", "0"), "0 requests"),
        (("--seed", "-1"), "seed -1"),
        (("--loop-ms", "-1"), "an event loop of"),
        (("--noise", "7"), "noise 7"),
        (("--replicas", "0"), "0 replicas"),
        (("--policy", "nonsense"), "unknown policy 'nonsense'; there are priced"),
        (("--budgets", "nonsense"), "share@low-high"),
        (("--fault", "nonsense"), "slow, gone"),
        (("--fault", "slow/9"), "fault on device 9: there are 0 to 0"),
        (("--arrivals", "trace"), "need a trace file"),
        (("--trace", "absent.csv"), "absent.csv cannot be read"),
        (("--arrivals", "gamma", "--cv", "0"), "cv is 0"),
        (("--profile", "prototype", "--profile", "prototype"), "two profiles are called prototype"),
        (("--cost", "gpu=1"), "a name among cpu"),
        (("--cost", "cpu=free"), "a cost above 0"),
        (("--plan", "--target", "1.5"), "between 0 and 1"),
        (("--plan", "--target", "0.99999"), "ask for 299572 at least"),
    ],
)
def test_a_mistake_is_one_sentence_about_usage(arguments: tuple[str, ...], sentence: str) -> None:
    """Nothing on stdout, and the sentence says what to change."""
    found = simulated(*arguments, "--json")

    assert isinstance(found.exception, BadConfig)
    assert found.stdout == ""
    assert sentence in str(found.exception)


def test_the_event_loop_takes_its_part_of_a_hosts_cores(
    tiny_environment: dict[str, str],
) -> None:
    """Load 1 is less on a measured host than slots alone would carry, unless told otherwise."""
    options = (
        *("--models", tiny_environment["MNV4SERVE_MODELS"]),
        *("--state-dir", tiny_environment["MNV4SERVE_STATE_DIR"]),
        *("--requests", "60", "--profile", "host"),
    )

    rates = [
        document(*options, *more)["scenario"]["rate_per_s"]
        for more in ((), ("--loop-ms", "0.3"), ("--loop-ms", "0"), ("--loop-ms", "3"))
    ]

    assert rates[3] < rates[0] == rates[1] < rates[2]


def test_an_absurd_profile_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    """A negative time in an arm table fails the command and names file and key."""
    path = tmp_path / "box.toml"
    path.write_text(
        f'name = "box"\nslots = 1\n{ARM}'.replace("p50_ms = 1.0", "p50_ms = -1.0"), encoding="utf-8"
    )

    done = subprocess.run(
        [sys.executable, "-m", "mnv4serve", "simulate", "--profile", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 1
    assert "box.toml: arms.0.service.1.p50_ms" in done.stderr
    assert "Traceback" not in done.stderr
