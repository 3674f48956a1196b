"""Ranges are chosen by what they cost on dev; what costs too much gets no figure."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mnv4serve.build.confidence import Surprise
from mnv4serve.build.findings import Rounding, VariantFindings, load_findings
from mnv4serve.build.release import Releaser, Sources
from mnv4serve.build.rounding import ATTEMPTS, Attempt, calibration_files, targets_of
from mnv4serve.domain import BackendName, Precision

from .conftest import SIDE, Released


@pytest.fixture
def copied(released: Released, tmp_path: Path) -> Released:
    """The released zoo in a folder that a test may write to."""
    root = Path(shutil.copytree(released.catalog.root, tmp_path / "models"))
    return replace(released, catalog=released.catalog.model_copy(update={"root": root}))


def releaser_of(released: Released, lines: list[str], **changes: object) -> Releaser:
    sources = Sources(released.data, released.data, split="train")
    plain = Releaser("tiny", sources, released.state_dir, report=lines.append)
    return replace(plain, **changes)  # type: ignore[arg-type]  # any of its fields


def test_int8_that_may_lose_too_much_gets_no_figure(copied: Released) -> None:
    """Two dev pictures can vouch for nothing: one attempt is made, told, and left uncertified."""
    lines: list[str] = []

    catalog = releaser_of(copied, lines).release(copied.catalog, copied.zoo.checkpoints[0], [SIDE])

    variant = catalog.zoos["tiny"].variants[0]
    assert variant.ranges is not None
    assert Precision.FP32 in {entry.precision for entry in variant.certified}
    assert Precision.INT8 not in {entry.precision for entry in variant.certified}
    assert any("pictures of dev cannot show that it loses" in line for line in lines)
    found = load_findings(catalog.root, "tiny", "tiny").variants[variant.name]
    assert {one.attempt for one in found.rounding} == {ATTEMPTS[0].name}
    assert found.refused() == {one.backend for one in found.rounding}


def test_the_next_attempt_is_made_where_one_costs_too_much(copied: Released) -> None:
    """Ranges that clip nearly everything are refused; the usual ones after them are taken."""
    clipping = Attempt("next to nothing", usual=0.0, pictures=8)
    attempts = (clipping, ATTEMPTS[0])
    before = copied.zoo.variants[0].ranges
    lines: list[str] = []

    catalog = releaser_of(copied, lines, attempts=attempts, largest_loss=0.8).release(
        copied.catalog, copied.zoo.checkpoints[0], [SIDE]
    )

    variant = catalog.zoos["tiny"].variants[0]
    found = load_findings(catalog.root, "tiny", "tiny").variants[variant.name]
    assert variant.ranges == before
    assert variant.ranges is not None
    assert catalog.read(variant.ranges)
    assert {one.attempt for one in found.taken()} == {ATTEMPTS[0].name}
    assert all(one.accepted for one in found.taken())
    assert any(clipping.name in line for line in lines)


def test_attention_is_rounded_for_the_backends_that_compute_it(released: Released) -> None:
    """A network that LiteRT cannot take has its int8 elsewhere, and costs no attempt."""
    zoo = released.zoo
    attentive = [
        one.model_copy(update={"architecture": "hybrid_medium"}) for one in zoo.checkpoints
    ]
    hybrid = zoo.model_copy(update={"checkpoints": tuple(attentive)})

    plain = {t.backend for t in targets_of(zoo, zoo.variants[0])}
    left = targets_of(hybrid, zoo.variants[0])

    assert plain - {t.backend for t in left} == {BackendName.LITERT}
    assert BackendName.CPU in {t.backend for t in left if t.precision is Precision.INT8}


def test_calibration_takes_as_many_as_asked() -> None:
    """A larger choice holds the smaller one."""
    files = [Path(f"{number}.jpg") for number in range(2000)]

    assert calibration_files(files, 700)[:512] == calibration_files(files)


def test_what_was_taken_is_the_last_attempt_of_each_backend() -> None:
    """Earlier attempts stay on record without counting."""
    one = Rounding(
        attempt="first", backend=BackendName.CPU, won=0, lost=9, n=99, bound=0.2, accepted=False
    )
    other = one.model_copy(update={"attempt": "second", "bound": 0.001, "accepted": True})
    found = VariantFindings(
        dev_pictures=99,
        temperature=1.0,
        log_loss=(1.0, 1.0),
        rounding=(one, other, one.model_copy(update={"backend": BackendName.ONNX})),
        strangers=(Surprise(n=1, mean=1, sure=1, certain=1),) * 2,
    )

    assert [entry.attempt for entry in found.taken()] == ["second", "first"]
    assert found.refused() == {BackendName.ONNX}
