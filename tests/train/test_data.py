"""Tests of reading, decoding and splitting picture folders."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnv4serve.errors import TrainError
from mnv4serve.train.data import (
    is_dev,
    list_pictures,
    load_pictures,
    split_folders,
    squash,
)

BLOCK_BYTES = 512
"""What the system counts the room of files in."""


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(colour: tuple[int, int, int] = (250, 120, 10)) -> Image.Image:
    return Image.new("RGB", (60, 30), colour)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("colour.jpg", picture()),
        ("grey.jpg", picture().convert("L")),
        ("print.jpg", picture().convert("CMYK")),
        ("palette.gif", picture().convert("P")),
        ("alpha.webp", picture().convert("RGBA")),
    ],
)
def test_any_format_becomes_a_square_of_rgb(name: str, image: Image.Image, tmp_path: Path) -> None:
    """What serving reads training reads, with the same colours."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / name)

    pictures = load_pictures(tmp_path, tmp_path / ".cache", size=32)

    assert pictures.pixels.shape == (2, 3, 32, 32)
    expected = np.asarray(image.convert("RGB")).mean((0, 1))
    assert np.abs(pictures.pixels[0].mean((1, 2)) - expected).max() < 8


def test_dev_split_is_a_stable_tenth_of_the_names() -> None:
    """The rule is fixed for ever: these five of thirty names."""
    names = [f"n01440764_{number}.JPEG" for number in range(5000)]

    share = sum(map(is_dev, names)) / len(names)

    assert share == pytest.approx(0.1, abs=0.015)
    assert [number for number in range(30) if is_dev(f"red{number}.png")] == [4, 6, 19, 20, 21]


def test_pictures_are_decoded_once(folder: Path, tmp_path: Path) -> None:
    """A second call reads the cache; a changed folder makes another one."""
    counts: list[int] = []
    first = load_pictures(folder / "val", tmp_path, size=32, advance=lambda n, _: counts.append(n))

    second = load_pictures(folder / "val", tmp_path, size=32, advance=lambda n, _: counts.append(n))

    assert counts == list(range(1, 9))
    assert np.array_equal(first.pixels, second.pixels)
    assert first.index == second.index


def test_rows_fall_into_two_disjoint_splits(folder: Path, tmp_path: Path) -> None:
    """Every picture is either trained on or judged by, and labels follow their rows."""
    pictures = load_pictures(folder / "train", tmp_path, size=32)

    train, dev = pictures.rows(dev=False), pictures.rows(dev=True)

    assert sorted([*train, *dev]) == list(range(48))
    assert len(dev) > 0
    assert pictures.resized(dev, 16).shape == (len(dev), 3, 16, 16)
    names = [pictures.index.names[row] for row in dev]
    assert pictures.labels(dev).tolist() == [int(name.startswith("red")) for name in names]


def test_unreadable_pictures_are_skipped_and_listed(tmp_path: Path) -> None:
    """Broken, cut off and foreign files do not stop a run."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "good.png")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "b" / "cut.jpg").write_bytes(encoded(picture(), "JPEG")[:200])
    (tmp_path / "b" / "cut.png").write_bytes(encoded(picture(), "PNG")[:60])
    (tmp_path / "b" / "gone.png").symlink_to("nowhere.png")

    pictures = load_pictures(tmp_path, tmp_path / ".cache", size=32)

    assert pictures.index.unreadable == (
        *("a/empty.png", "a/notes.txt"),
        *("b/cut.jpg", "b/cut.png", "b/gone.png"),
    )
    assert pictures.index.names == ("good.png", "good.png")
    assert pictures.pixels.shape[0] == 2


def test_class_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    """A class nobody can learn is named."""
    (tmp_path / "a").mkdir()
    (tmp_path / "hollow").mkdir()
    picture().save(tmp_path / "a" / "good.png")

    with pytest.raises(TrainError, match="no readable picture of hollow"):
        load_pictures(tmp_path, tmp_path / ".cache", size=32)


def test_single_class_is_refused(tmp_path: Path) -> None:
    """There is nothing to tell apart; hidden folders do not count."""
    (tmp_path / "only").mkdir()
    (tmp_path / ".git").mkdir()

    with pytest.raises(TrainError, match="has 1 class folders, training needs at least 2"):
        list_pictures(tmp_path)


def test_plain_class_folders_have_no_validation(folder: Path) -> None:
    """A folder without `train/` is taken to hold the classes themselves."""
    assert split_folders(folder) == (folder / "train", folder / "val")
    assert split_folders(folder / "train") == (folder / "train", None)
    with pytest.raises(TrainError, match="not a folder"):
        split_folders(folder / "absent")


def test_full_disk_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    """A cache that cannot be written stops the run before it starts."""
    (tmp_path / "file").touch()

    with pytest.raises(TrainError, match="cannot cache the pictures"):
        load_pictures(folder / "val", tmp_path / "file", size=32)


def test_room_for_the_pictures_is_taken_at_once(tmp_path: Path) -> None:
    """A mapped file with holes would end the process where the disk fills up later."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "good.png")
        for number in range(20):
            (tmp_path / name / f"{number}.txt").write_text("no picture")

    load_pictures(tmp_path, tmp_path / ".cache", size=64)

    (file,) = (tmp_path / ".cache").glob("*.npy")
    assert file.stat().st_blocks * BLOCK_BYTES >= file.stat().st_size


def test_squash_averages_what_it_shrinks() -> None:
    """Antialiasing turns a fine checkerboard into grey."""
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8)

    small = squash(board.expand(1, 3, 64, 64).contiguous(), 16)

    assert (small.float() - 127.5).abs().max() < 4


def test_pictures_that_were_deleted_are_decoded_again(folder: Path, tmp_path: Path) -> None:
    """Whoever makes room by removing the large file alone loses time, not the run."""
    before = load_pictures(folder / "train", tmp_path / "cache", size=32)
    next((tmp_path / "cache").glob("*.npy")).unlink()

    again = load_pictures(folder / "train", tmp_path / "cache", size=32)

    assert np.array_equal(again.pixels, before.pixels)
