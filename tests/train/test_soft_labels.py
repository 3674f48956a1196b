"""Tests of a teacher's stored answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mnv4serve.arch.model import MobileNetV4, create_model
from mnv4serve.errors import TrainError
from mnv4serve.train.evaluate import batch_norm_statistics
from mnv4serve.train.soft_labels import (
    LabelFile,
    LabelledSet,
    Teacher,
    Trained,
    label,
    load_teacher,
)
from mnv4serve.train.views import VIEW_SETS, TeacherName, draw_replica, render

COUNT = 70


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model = create_model("conv_small_035", 3)
    torch.nn.init.normal_(model.classifier.weight)
    return load_teacher([files_of(model, folder)], resolution=32, classes=3)


def files_of(model: MobileNetV4, folder: Path) -> Trained:
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    save_file(state, folder / "weights.safetensors")
    save_file(batch_norm_statistics(model), folder / "bn.safetensors")
    return Trained("conv_small_035", folder / "weights.safetensors", folder / "bn.safetensors")


def source() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, 40, 40), dtype=torch.uint8, generator=generator)


def labelled_set(name: TeacherName, *, seed: int = 0) -> LabelledSet:
    return LabelledSet(
        views=VIEW_SETS["D2"], seed=seed, teacher=name, data_hash="d", pictures=COUNT, classes=3
    )


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


def test_labels_are_the_answers_to_the_very_views(teacher: Teacher, tmp_path: Path) -> None:
    """What is read back for a row is what the teacher says to its view drawn again."""
    file = LabelFile(tmp_path, labelled_set(teacher.name))
    seen: list[tuple[int, int]] = []

    label(teacher, file, source(), 2, lambda done, total: seen.append((done, total)))

    replica = draw_replica(VIEW_SETS["D2"], COUNT, seed=0, number=1)
    rows = np.array([3, 64, 69])
    expected = teacher.answer(render(replica, source(), rows, 32, np.zeros(3, np.bool_)))
    assert file.replicas == 2
    torch.testing.assert_close(file.read(1)[rows], expected, rtol=0, atol=1e-3)
    assert expected.max() > 0.4
    assert seen == [(64, 140), (70, 140), (134, 140), (140, 140)]


def test_several_answer_with_their_mean(tmp_path: Path) -> None:
    """Each is asked, and the name tells who they are."""
    files = []
    for number in range(2):
        model = create_model("conv_small_035", 3)
        torch.nn.init.normal_(model.classifier.weight)
        folder = tmp_path / str(number)
        folder.mkdir()
        files.append(files_of(model, folder))
    views = torch.rand(2, 3, 32, 32) * 2 - 1
    alone = [load_teacher([each], resolution=32, classes=3) for each in files]

    panel = load_teacher(files, resolution=32, classes=3)

    mean = (alone[0].answer(views) + alone[1].answer(views)) / 2
    torch.testing.assert_close(panel.answer(views), mean)
    assert not torch.equal(alone[0].answer(views), alone[1].answer(views))
    assert panel.name.name == "conv_small_035@32,conv_small_035@32"
    assert panel.name.sha256 not in {each.name.sha256 for each in alone}


def test_cut_off_labelling_goes_on_to_the_same_file(teacher: Teacher, tmp_path: Path) -> None:
    """Half a replica is thrown away and asked for again."""
    whole = LabelFile(tmp_path / "whole", labelled_set(teacher.name))
    label(teacher, whole, source(), 3, ignore)
    cut = LabelFile(tmp_path / "cut", labelled_set(teacher.name))
    label(teacher, cut, source(), 1, ignore)
    with cut.path.open("ab") as file:
        file.write(b"half a replica")

    label(teacher, cut, source(), 3, ignore)

    assert cut.path.read_bytes() == whole.path.read_bytes()


def test_finished_labels_are_not_asked_for_again(teacher: Teacher, tmp_path: Path) -> None:
    """A second student of the same set finds everything there."""
    file = LabelFile(tmp_path, labelled_set(teacher.name))
    label(teacher, file, source(), 1, ignore)
    steps: list[int] = []

    label(teacher, file, source(), 1, lambda done, _: steps.append(done))

    assert steps == []


def test_labels_of_another_teacher_are_refused(teacher: Teacher, tmp_path: Path) -> None:
    """Answers of two networks are never mixed in one file."""
    LabelFile(tmp_path, labelled_set(teacher.name))
    other = teacher.name.model_copy(update={"sha256": "0"})

    with pytest.raises(TrainError, match="of another teacher, seed or data"):
        LabelFile(tmp_path, labelled_set(other))


def test_foreign_description_is_refused(teacher: Teacher, tmp_path: Path) -> None:
    """A JSON file of something else is named."""
    (tmp_path / "D2.json").write_text(json.dumps({"views": 3}))

    with pytest.raises(TrainError, match=r"D2\.json does not describe labels"):
        LabelFile(tmp_path, labelled_set(teacher.name))


def test_full_disk_keeps_whole_replicas(teacher: Teacher, tmp_path: Path) -> None:
    """What could not be added is said in one sentence."""
    file = LabelFile(tmp_path, labelled_set(teacher.name))
    file.path.symlink_to("/dev/full")

    with pytest.raises(TrainError, match=r"cannot add labels to .* 0 replicas are kept"):
        file.append(torch.zeros(COUNT, 3))
