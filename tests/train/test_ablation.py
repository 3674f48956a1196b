"""Tests of comparing ways to train."""

from pathlib import Path

import pytest
import torch

from mnv4serve.arch.model import create_model
from mnv4serve.errors import TrainError
from mnv4serve.train.ablation import ARMS, Ablation, Arm, Outcome, Plan, ablate
from mnv4serve.train.config import TrainConfig
from mnv4serve.train.curves import draw_arms
from mnv4serve.train.distill import label_mixture
from mnv4serve.train.run import training_pictures
from mnv4serve.train.soft_labels import Teacher
from mnv4serve.train.views import TeacherName

NAME = TeacherName(name="conv_small_035@32", sha256="0" * 64, resolution=32)
TWO = (Arm("recipe"), Arm("D1+D2", ("D1", "D2"), taught=True))


@pytest.fixture
def plan(config: TrainConfig, tmp_path: Path) -> Plan:
    base = config.model_copy(update={"epochs": 1, "schedule": ((1.0, (32,)),)})
    return Plan(base, NAME, tmp_path / "labels", None, (0, 1))


def outcome(arm: str, seed: int, accuracy: float) -> Outcome:
    return Outcome(arm=arm, seed=seed, dev_accuracy=accuracy, curve=(0.1, accuracy))


def result(*outcomes: Outcome) -> Ablation:
    return Ablation(
        architecture="a", epochs=2, resolution=32, teacher=NAME, outcomes=tuple(outcomes)
    )


def test_arms_differ_only_in_what_they_try(plan: Plan) -> None:
    """All see as many pictures for as many steps; hard labels see the pixels of both sets."""
    configs = {arm.name: config for arm, seed, config in plan.runs() if seed == 0}

    assert set(configs) == {arm.name for arm in ARMS if not arm.started}
    hard, taught = configs["hard labels"].distillation, configs["D1+D2"].distillation
    assert hard is not None
    assert taught is not None
    assert hard.views == taught.views
    assert (hard.teacher, taught.teacher) == (None, NAME)
    assert configs["recipe"].distillation is None
    assert len({config.out for config in configs.values()}) == len(configs)
    assert {config.epochs for config in configs.values()} == {1}


def test_runs_are_not_repeated(plan: Plan) -> None:
    """What is in the result stays there; only missing runs are made."""
    torch.manual_seed(0)
    teacher = Teacher(NAME, (create_model("conv_small_035", 2).eval(),))
    label_mixture(plan.config(TWO[1], 0), training_pictures(plan.base), teacher, lambda *_: None)
    first = ablate(plan, arms=TWO)
    stages: list[str] = []

    again = ablate(plan, lambda report: stages.append(report.stage), arms=TWO)

    assert [(o.arm, o.seed) for o in first.outcomes] == [
        ("recipe", 0),
        ("D1+D2", 0),
        ("recipe", 1),
        ("D1+D2", 1),
    ]
    assert again == first
    assert stages == []


def test_result_of_another_plan_is_refused(plan: Plan) -> None:
    """Runs of other lengths are never averaged."""
    plan.result.parent.mkdir(parents=True)
    plan.result.write_text(result().model_dump_json())

    with pytest.raises(TrainError, match="is of another ablation"):
        ablate(plan)


def test_foreign_result_is_refused(plan: Plan) -> None:
    """A file of something else is not overwritten."""
    plan.result.parent.mkdir(parents=True)
    plan.result.write_text("{}")

    with pytest.raises(TrainError, match="holds no ablation"):
        ablate(plan)


def test_summary_has_means_and_spread() -> None:
    """Best first; the spread is the standard deviation over the seeds."""
    found = result(outcome("a", 0, 0.5), outcome("b", 0, 0.8), outcome("a", 1, 0.7))

    (best, top, alone), (name, average, spread) = found.summary()

    assert (best, top, alone) == ("b", 0.8, 0)
    assert name == "a"
    assert average == pytest.approx(0.6)
    assert spread == pytest.approx(0.1414, abs=1e-4)


def test_arms_are_drawn(tmp_path: Path) -> None:
    """One picture with bars and curves."""
    pytest.importorskip("matplotlib", reason="plots are optional")

    draw_arms(result(outcome("a", 0, 0.5), outcome("b", 0, 0.8)), tmp_path / "arms.svg")

    assert b"</svg>" in (tmp_path / "arms.svg").read_bytes()
