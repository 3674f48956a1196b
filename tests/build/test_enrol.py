"""A zoo of one's own is replaced as a whole or not at all."""

from pathlib import Path

import pytest

from mnv4serve.build.enrol import STAGING, Enrolment
from mnv4serve.build.release import Sources
from mnv4serve.catalog import Preprocessing, load_catalog, own_zoo
from mnv4serve.errors import StorageError

from .conftest import Released


@pytest.fixture
def enrolment(released: Released, tmp_path: Path) -> Enrolment:
    classes = tuple(sorted(path.name for path in released.data.iterdir()))
    preprocessing = Preprocessing(resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    sources = Sources(released.data, None, "mine dev")
    return Enrolment(tmp_path / "zoos", "mine", classes, preprocessing, sources)


def test_a_zoo_whose_replacement_was_cut_off_comes_back(
    enrolment: Enrolment, released: Released, tmp_path: Path
) -> None:
    """A process that was killed between two renames left the old one aside: nothing is lost."""
    aside = enrolment.zoos / STAGING / "mine" / "mine.old"
    aside.mkdir(parents=True)
    text = (released.catalog.root / "catalog.toml").read_text("utf-8").replace("tiny", "mine")
    (aside / "catalog.toml").write_text(text, "utf-8")

    with pytest.raises(StorageError, match="cannot be written"):
        enrolment.enrol(
            tmp_path / "no weights",
            "conv_small",
            state_dir=released.state_dir,
            report=lambda _: None,
            progress=lambda _step, _done, _total: None,
        )

    assert list(load_catalog(own_zoo(enrolment.zoos, "mine")).zoos) == ["mine"]
    assert not aside.exists()
