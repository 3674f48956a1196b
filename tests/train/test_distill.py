"""Tests of students on a tiny set."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mnv4serve.arch.model import create_model
from mnv4serve.errors import TrainError
from mnv4serve.train.checkpoint import load_checkpoint
from mnv4serve.train.config import Distillation, TrainConfig
from mnv4serve.train.distill import (
    DistilledFeed,
    label_files,
    label_mixture,
    replicas_needed,
)
from mnv4serve.train.loop import Report, train
from mnv4serve.train.run import training_pictures
from mnv4serve.train.soft_labels import Teacher
from mnv4serve.train.views import VIEW_SETS, TeacherName

PAIR = (VIEW_SETS["D1"], VIEW_SETS["D2"])


class PowerCutError(Exception):
    """Ends a run in its middle."""


def cut(report: Report) -> None:
    if report.stage == "epoch 2/3" and report.share > 0.3:
        raise PowerCutError


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def teacher() -> Teacher:
    """Knows nothing, but always answers the same."""
    torch.manual_seed(0)
    model = create_model("conv_small_035", 2)
    torch.nn.init.normal_(model.classifier.weight)
    name = TeacherName(name="conv_small_035@32", sha256="0" * 64, resolution=32)
    return Teacher(name, (model.eval(),))


@pytest.fixture
def student(config: TrainConfig, teacher: Teacher, tmp_path: Path) -> TrainConfig:
    """Learns from both sets, five pictures of a batch from one and three from the other."""
    chosen = Distillation(
        views=PAIR, shares=(5, 3), teacher=teacher.name, folder=tmp_path / "labels"
    )
    return config.model_copy(update={"distillation": chosen, "label_smoothing": 0.0})


def test_student_learns_set_by_set(student: TrainConfig, teacher: Teacher) -> None:
    """Both sets have their own curve, and the command names teacher and mixture."""
    label_mixture(student, training_pictures(student), teacher, ignore)

    record = train(student)

    assert [list(point.sets) for point in record.curve] == [["D1", "D2"]] * 3
    for point in record.curve:
        mean = (5 * point.sets["D1"].loss + 3 * point.sets["D2"].loss) / 8
        assert point.loss == pytest.approx(mean, rel=1e-4)
    assert "mnv4serve distill" in record.command
    assert "label-smoothing" not in record.command
    assert "--teacher conv_small_035@32 --mixture D1:5,D2:3" in record.command


def test_resumed_student_equals_an_unbroken_one(
    student: TrainConfig, teacher: Teacher, tmp_path: Path
) -> None:
    """The streams go on where the epoch before left off."""
    label_mixture(student, training_pictures(student), teacher, ignore)
    broken = student.model_copy(update={"out": tmp_path / "broken"})
    train(student)
    with pytest.raises(PowerCutError):
        train(broken, cut)

    train(broken)

    whole, resumed = load_checkpoint(student.checkpoint), load_checkpoint(broken.checkpoint)
    assert all(torch.equal(v, resumed["model"][k]) for k, v in whole["model"].items())


def test_targets_are_the_teachers_answers(student: TrainConfig, teacher: Teacher) -> None:
    """What a batch asks for is what the teacher says to the pictures in it."""
    never = {"picture_size": 32}
    chosen = student.model_copy(update=never)
    pictures = training_pictures(chosen)
    label_mixture(chosen, pictures, teacher, ignore)
    feed = DistilledFeed(chosen, pictures)
    feed.prepare([32])

    batches = list(feed.batches(0, np.random.default_rng(0)))

    agreed = []
    for batch in batches:
        straight, mirrored = teacher.answer(batch.images), teacher.answer(batch.images.flip(-1))
        near = [(a - batch.targets).abs().amax(1) < 2e-3 for a in (straight, mirrored)]
        agreed.append(near[0] | near[1])
    assert torch.cat(agreed).all()
    assert batches[0].parts == (("D1", 5), ("D2", 3))


def test_views_come_once_before_any_comes_again(student: TrainConfig, teacher: Teacher) -> None:
    """Epoch after epoch a stream walks through whole replicas."""
    pictures = training_pictures(student)
    label_mixture(student, pictures, teacher, ignore)
    feed = DistilledFeed(student, pictures)
    feed.prepare([32])
    assert student.distillation is not None
    stream, size = feed.streams[0], len(feed.sources.rows)

    never = np.random.default_rng(0)
    _, first = stream.take(0, size, 32, never)
    _, second = stream.take(size, 2, 32, never)

    labels = label_files(student.distillation, pictures)["D1"]
    assert sorted(first[:, 0].tolist()) == sorted(labels.read(0)[:, 0].tolist())
    assert all(row in labels.read(1)[:, 0].tolist() for row in second[:, 0].tolist())


def test_hard_labels_need_no_teacher(student: TrainConfig) -> None:
    """The folders' names on the same views, blended where the views are."""
    chosen = Distillation(views=PAIR, shares=(1, 1))
    hard = student.model_copy(update={"distillation": chosen})
    pictures = training_pictures(hard)
    feed = DistilledFeed(hard, pictures)
    feed.prepare([32])

    batch = next(feed.batches(0, np.random.default_rng(0)))

    assert label_files(chosen, pictures) == {}
    assert batch.targets[:4].amax(1).tolist() == [1.0] * 4
    assert batch.targets[4:].amax(1).min() < 1


def test_needed_replicas_cover_the_run(student: TrainConfig) -> None:
    """Three epochs of five batches take 75 and 45 of 41 pictures."""
    assert replicas_needed(student, 41) == {"D1": 2, "D2": 2}
    assert replicas_needed(student.model_copy(update={"epochs": 80}), 41) == {"D1": 49, "D2": 30}


@pytest.mark.parametrize(
    ("shares", "size", "counts"),
    [((1, 1), 64, [32, 32]), ((2, 1), 64, [43, 21]), ((1, 1, 2), 10, [2, 3, 5]), ((1,), 7, [7])],
)
def test_counts_add_up_to_the_batch(
    shares: tuple[float, ...], size: int, counts: list[int]
) -> None:
    """Whole pictures, as near to the ratio as they come."""
    views = tuple(VIEW_SETS["D1"].model_copy(update={"name": str(i)}) for i in range(len(shares)))

    assert Distillation(views=views, shares=shares).counts(size) == counts


def test_missing_labels_are_refused(student: TrainConfig) -> None:
    """A student without a teacher's answers says what to do."""
    with pytest.raises(TrainError, match="holds no labels yet"):
        train(student)


@pytest.mark.parametrize("changes", [{"shares": (1,)}, {"views": (PAIR[0], PAIR[0])}])
def test_impossible_mixtures_are_refused(changes: dict[str, object]) -> None:
    """A share for each set, and each set once."""
    with pytest.raises(ValueError, match=r"share|once"):
        Distillation.model_validate({"views": PAIR, "shares": (1, 1), **changes})
