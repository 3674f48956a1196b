"""Label files as networks come with them."""

from pathlib import Path

import pytest

from mnv4serve.build.foreign.labels import agree, read_labels, without_background
from mnv4serve.errors import CatalogError


@pytest.mark.parametrize(
    "text",
    [
        "tench\ngoldfish\n\n",
        "\ufefftench\r\ngoldfish\r\n",
        "0: tench\n1: goldfish",
        "0 tench\n1 goldfish",
        "1\ttench\n2\tgoldfish",
        "# as published\ntench\ngoldfish",
        "'tench'\n'goldfish'",
        '["tench", "goldfish"]',
        '{"1": "goldfish", "0": "tench"}',
        '{"goldfish": 1, "tench": 0}',
        '{"model_type": "resnet", "id2label": {"0": "tench", "1": "goldfish"}}',
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        "n01440764 tench\nn01443537 goldfish",
    ],
)
def test_labels_are_read_in_their_order(tmp_path: Path, text: str) -> None:
    """Lines, comments, numbered lines, WordNet ids, JSON lists and maps of either direction."""
    path = tmp_path / "labels"
    path.write_text(text, "utf-8")

    labels = read_labels(path)

    assert [label.name for label in labels] == ["tench", "goldfish"]
    assert labels[0].id in {"tench", "n01440764"}


def test_numbers_that_do_not_count_belong_to_the_names(tmp_path: Path) -> None:
    """A label may begin with a number of its own."""
    path = tmp_path / "labels"
    path.write_text("0 series\n5 series", "utf-8")

    assert [label.name for label in read_labels(path)] == ["0 series", "5 series"]


def test_labels_of_the_same_name_stay_apart(tmp_path: Path) -> None:
    """ImageNet has two cranes: the ids differ, the names do not."""
    path = tmp_path / "labels.txt"
    path.write_text("crane\nfox\ncrane\n", "utf-8")

    labels = read_labels(path)

    assert len({label.id for label in labels}) == 3
    assert [label.name for label in labels] == ["crane", "fox", "crane"]


@pytest.mark.parametrize("text", ["", "one\n", "{}", '{"a": "b"}', "[1", "\xff"])
def test_what_names_no_two_labels_is_refused(tmp_path: Path, text: str) -> None:
    """One sentence with the file's name."""
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(CatalogError, match=r"labels\.txt"):
        read_labels(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(CatalogError, match=r"none\.txt cannot be read"):
        read_labels(tmp_path / "none.txt")


def test_a_background_class_is_no_label(tmp_path: Path) -> None:
    """Only at the first place, and only by itself."""
    path = tmp_path / "labels.txt"
    path.write_text("background\ntench\nbackground radiation\n", "utf-8")

    labels = without_background(read_labels(path))

    assert [label.name for label in labels] == ["tench", "background radiation"]


def test_labels_agree_by_any_of_their_names(tmp_path: Path) -> None:
    """Data sets list more or fewer synonyms; another order is another network."""
    few, many = tmp_path / "few", tmp_path / "many"
    few.write_text("tench\ngreat_white_shark\n", "utf-8")
    many.write_text("tench, Tinca tinca\ngreat white shark, man-eater\n", "utf-8")
    mine, theirs = read_labels(few), read_labels(many)

    assert agree(mine, theirs) == ""
    assert "label 0 is 'great_white_shark'" in agree(mine[::-1], theirs)
    assert "2 labels, the zoo 1" in agree(mine, theirs[:1])
