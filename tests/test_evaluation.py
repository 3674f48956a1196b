"""Accuracy is counted on the serving path, with an interval that says how sure it is."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnv4serve.catalog import Label, Preprocessing
from mnv4serve.errors import CatalogError
from mnv4serve.evaluation import evaluate, labelled_files, reader

LABELS = (Label(id="n1", name="dark"), Label(id="n2", name="bright"))
PREPROCESSING = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Brightness:
    """Says bright where the mean pixel is in the upper half."""

    def infer(self, pixels: NDArray[np.uint8], slot: int = 0) -> NDArray[np.float32]:
        del slot
        means = pixels.reshape(len(pixels), -1).mean(axis=1)
        return np.stack([127.5 - means, means - 127.5], axis=1).astype(np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two right dark pictures, one right and one wrong bright one, one that is no picture."""
    for name, greys in (("n1", (10, 20)), ("bright", (240, 30))):
        (tmp_path / name).mkdir()
        for grey in greys:
            buffer = io.BytesIO()
            Image.new("RGB", (40, 30), (grey,) * 3).save(buffer, "JPEG")
            (tmp_path / name / f"{grey}.jpg").write_bytes(buffer.getvalue())
    (tmp_path / "n1" / "notes.txt").write_text("no picture", "utf-8")
    return tmp_path


@pytest.mark.parametrize("slots", [1, 2])
def test_right_answers_are_counted_and_unreadable_files_listed(folder: Path, slots: int) -> None:
    """Files keep their order whatever the number of threads."""
    files = labelled_files(folder, LABELS)

    score = evaluate(Brightness(), files, read=reader(32, PREPROCESSING), slots=slots)

    assert score.correct.tolist() == [True, False, True, True]
    assert score.labels.tolist() == [1, 1, 0, 0]
    assert score.names == ("240.jpg", "30.jpg", "10.jpg", "20.jpg")
    assert score.logits.shape == (4, 2)
    assert score.unreadable == ("notes.txt",)
    assert (score.n, score.accuracy) == (4, 0.75)


def test_a_folder_that_names_no_label_is_refused(folder: Path) -> None:
    """A folder of another data set is not counted as wrong answers."""
    (folder / "zebra").mkdir()

    with pytest.raises(CatalogError, match="zebra"):
        labelled_files(folder, LABELS)


def test_hidden_files_and_folders_are_left_alone(folder: Path) -> None:
    """What file managers and notebooks leave behind is neither a class nor a picture."""
    before = labelled_files(folder, LABELS)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "n1" / ".DS_Store").touch()

    assert labelled_files(folder, LABELS) == before


def test_a_file_that_cannot_be_opened_is_unreadable(folder: Path) -> None:
    """A broken link counts as a picture that nobody can read."""
    (folder / "n1" / "gone.jpg").symlink_to("nowhere.jpg")

    score = evaluate(Brightness(), labelled_files(folder, LABELS), read=reader(32, PREPROCESSING))

    assert score.unreadable == ("gone.jpg", "notes.txt")


def test_a_folder_without_pictures_is_refused(tmp_path: Path, folder: Path) -> None:
    """No files, or none that can be read, is an error rather than a division by zero."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CatalogError, match="no class folders"):
        labelled_files(empty, LABELS)

    text = folder / "n1" / "notes.txt"
    with pytest.raises(CatalogError, match="none of the 1 files"):
        evaluate(Brightness(), [(text, 0)], read=reader(32, PREPROCESSING))
