"""The log of held-out pictures keeps every line and is read back whole or not at all."""

import resource
from pathlib import Path

import pytest

from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import CatalogError, StorageError
from mnv4serve.readings import (
    Reading,
    append_reading,
    encode_marks,
    load_readings,
    log_of,
)

MASK = 0b1011


def reading(artifact: str = "a" * 64, **changes: object) -> Reading:
    values: dict[str, object] = {
        "artifact": artifact,
        "variant": "tiny@64",
        "backend": BackendName.CPU,
        "precision": Precision.INT8,
        "runtime": "openvino 1",
        "date": "2026-01-01",
        "split": "tiny val",
        "n": 11,
        "right": 3,
        "pictures": "f00d",
        "marks": encode_marks(MASK, 11),
        "by_label": ((1, 5), (2, 6)),
        "calibration_error": (0.1, 0.02),
    }
    return Reading.model_validate(values | changes)


def test_readings_are_read_back(tmp_path: Path) -> None:
    """Every field survives, marks as the bits they are."""
    append_reading(tmp_path, "tiny", reading())

    found = load_readings(tmp_path, "tiny")

    assert found == {"a" * 64: reading()}
    assert found["a" * 64].mask == MASK


def test_nothing_is_ever_removed_and_the_last_one_counts(tmp_path: Path) -> None:
    """Reading again adds a line with its reason; both stay in the file."""
    append_reading(tmp_path, "tiny", reading(marks=None, pictures=None))
    append_reading(tmp_path, "tiny", reading("b" * 64))
    append_reading(tmp_path, "tiny", reading(again="the first kept no answers"))

    found = load_readings(tmp_path, "tiny")

    assert found["a" * 64].again == "the first kept no answers"
    assert set(found) == {"a" * 64, "b" * 64}
    assert len(log_of(tmp_path, "tiny").read_text("utf-8").splitlines()) == 3


def test_no_log_is_no_reading(tmp_path: Path) -> None:
    """A zoo that was never certified has none."""
    assert load_readings(tmp_path, "tiny") == {}


def test_marks_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    """An altered line is damage, said in one sentence, not another result."""
    append_reading(tmp_path, "tiny", reading())
    path = log_of(tmp_path, "tiny")
    path.write_text(path.read_text("utf-8").replace('"right": 3', '"right": 4'), "utf-8")

    with pytest.raises(CatalogError, match="damaged") as caught:
        load_readings(tmp_path, "tiny")

    assert "\n" not in str(caught.value)


def test_a_line_that_does_not_fit_leaves_the_log_readable(tmp_path: Path) -> None:
    """Half a line on a full disk would make every earlier reading unreadable."""
    append_reading(tmp_path, "tiny", reading())
    log = log_of(tmp_path, "tiny")
    before = log.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))

    try:
        with pytest.raises(StorageError, match="cannot be written: "):
            append_reading(tmp_path, "tiny", reading("b" * 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert log.read_bytes() == before
