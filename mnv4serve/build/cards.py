"""Model cards: README.md of a models folder, from the catalog and the records beside the weights.

What people have to say stands in about.md, and on a checkpoint in weights/ZOO/NAME.md.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnv4serve.arch.model import create_model, macs, parameter_count
from mnv4serve.build.files import replace_file
from mnv4serve.build.findings import Findings, VariantFindings, load_findings
from mnv4serve.catalog import Catalog, Certified, Checkpoint, Variant, Zoo
from mnv4serve.errors import CatalogError
from mnv4serve.readings import Reading, load_readings
from mnv4serve.significance import wilson_interval

ABOUT, CARDS = "about.md", "README.md"
BARS = "▁▂▃▄▅▆▇█"
CURVE_POINTS = 40
WEAKEST = 3

Lines = Iterator[str]


@dataclass(frozen=True, slots=True)
class _Subject:
    """All that is written down about one checkpoint."""

    zoo: Zoo
    checkpoint: Checkpoint
    record: Mapping[str, Any]
    note: str
    findings: Findings
    readings: Mapping[str, Reading]

    @property
    def variants(self) -> list[Variant]:
        return [v for v in self.zoo.variants if v.checkpoint == self.checkpoint.name]

    def found(self, variant: Variant) -> VariantFindings | None:
        return self.findings.variants.get(variant.name)

    def reading(self, certified: Certified) -> Reading | None:
        return self.readings.get(certified.reading) if certified.reading else None


def write_cards(catalog: Catalog) -> Path:
    """Replace a models folder's README.md."""
    path = catalog.root / CARDS
    replace_file(path, render(catalog).encode())
    return path


def render(catalog: Catalog) -> str:
    """The whole README.md."""
    about = _text(catalog.root / ABOUT) or "# Models"
    subjects = [
        _subject(catalog, name, zoo, checkpoint)
        for name, zoo in catalog.zoos.items()
        for checkpoint in zoo.checkpoints
    ]
    cards = ["\n".join(_card(subject)).strip() for subject in subjects]
    return "\n\n".join([about.strip(), *cards]) + "\n"


def _subject(catalog: Catalog, name: str, zoo: Zoo, checkpoint: Checkpoint) -> _Subject:
    folder = catalog.root / f"weights/{name}"
    return _Subject(
        zoo=zoo,
        checkpoint=checkpoint,
        record=_record(folder / f"{checkpoint.name}.json"),
        note=_text(folder / f"{checkpoint.name}.md"),
        findings=load_findings(catalog.root, name, checkpoint.name),
        readings=load_readings(catalog.root, name),
    )


def _card(subject: _Subject) -> Lines:
    checkpoint = subject.checkpoint
    model = create_model(checkpoint.architecture, len(subject.zoo.labels))
    yield f"## {checkpoint.name}"
    yield ""
    yield f"{parameter_count(model) / 1e6:.2f} M parameters; trained {checkpoint.date} with"
    yield ""
    yield f"    {checkpoint.command}"
    yield ""
    if subject.record:
        yield from _training(subject.record)
    if subject.note:
        yield from (subject.note.strip(), "")
    yield from _accuracies(subject)
    yield from _confidence(subject)
    yield from _rounding(subject)
    yield from _weakest(subject)


def _training(record: Mapping[str, Any]) -> Lines:
    run = record["run"]
    curve = [point["dev_accuracy"] for point in run["curve"]]
    yield (
        f"on {run['train_pictures']:,} pictures, judged on {run['dev_pictures']:,} of `dev`; the "
        f"{record['weights']} weights were the better ones there. Accuracy on `dev` by epoch, "
        f"{curve[0]:.2f} to {max(curve):.2f}:"
    )
    yield ""
    yield f"    {_spark(curve)}"
    yield ""


def _accuracies(subject: _Subject) -> Lines:
    yield "| variant | MMACs | backend | precision | dev | val | 95 % interval (Wilson) |"
    yield "|---|---|---|---|---|---|---|"
    for variant in subject.variants:
        for entry in variant.certified:
            yield _accuracy(subject, variant, entry)
    yield ""
    if left_out := subject.findings.left_out:
        told = ", ".join(f"{px} px ({accuracy:.4f})" for px, accuracy in left_out.items())
        yield f"Not worth having, since a smaller resolution is as accurate on `dev`: {told}."
        yield ""


def _accuracy(subject: _Subject, variant: Variant, entry: Certified) -> str:
    n_labels = len(subject.zoo.labels)
    mega = macs(subject.checkpoint.architecture, variant.resolution, n_labels) / 1e6
    low, high = wilson_interval(round(entry.accuracy * entry.n), entry.n)
    dev = "-" if entry.dev is None else f"{entry.dev:.4f}"
    return (
        f"| `{variant.name}` | {mega:.0f} | {entry.backend} | {entry.precision} | {dev} "
        f"| {entry.accuracy:.4f} of {entry.n:,} | {low:.4f} to {high:.4f} |"
    )


def _confidence(subject: _Subject) -> Lines:
    """Calibration and strangers, each before and after the temperature."""
    rows = [(v, found) for v in subject.variants if (found := subject.found(v))]
    if not rows:
        return
    count = next((found.strangers[0].n for _, found in rows if found.strangers), 0)
    yield (
        "Probabilities at temperature 1 and at the variant's own, which `dev` chose by log-loss: "
        "expected calibration error on `val` (fp32, 15 equal-mass bins)"
        + (f", and what {count} photos of none of the classes are told." if count else ".")
    )
    yield ""
    yield "| variant | temperature | calibration error | strangers, mean | 0.5 or more | 0.9 up |"
    yield "|---|---|---|---|---|---|"
    for variant, found in rows:
        yield (
            f"| `{variant.name}` | {found.temperature:.3f} | {_errors(subject, variant)} "
            f"| {' | '.join(_strangers(found))} |"
        )
    yield ""


def _errors(subject: _Subject, variant: Variant) -> str:
    readings = [subject.reading(entry) for entry in variant.certified[:1]]
    errors = [reading.calibration_error for reading in readings if reading]
    if not errors or errors[0] is None:
        return "-"
    before, after = errors[0]
    return f"{before:.3f} to {after:.3f}"


def _strangers(found: VariantFindings) -> Sequence[str]:
    if found.strangers is None:
        return ("-", "-", "-")
    before, after = found.strangers
    return (
        f"{before.mean:.2f} to {after.mean:.2f}",
        f"{before.sure:.0%} to {after.sure:.0%}",
        f"{before.certain:.0%} to {after.certain:.0%}",
    )


def _rounding(subject: _Subject) -> Lines:
    found = [(v.name, one) for v in subject.variants if (one := subject.found(v))]
    taken = [(name, one) for name, each in found for one in each.taken()]
    if not taken:
        return
    name, worst = max(taken, key=lambda pair: pair[1].bound)
    yield (
        f"int8 against fp32 on the same {worst.n:,} `dev` pictures: at worst `{name}` on "
        f"{worst.backend}, {worst.lost} lost and {worst.won} won, a loss below "
        f"{worst.bound:.2%} with 95 % confidence."
    )
    refused = [f"`{name}` on {one.backend}" for name, one in taken if not one.accepted]
    if refused:
        yield (
            "Not shown to lose less than a point, so without a figure and used only when pinned: "
            f"{', '.join(refused)}."
        )
    yield ""


def _weakest(subject: _Subject) -> Lines:
    """The labels that the checkpoint's most accurate artifact knows least."""
    entries = [entry for variant in subject.variants for entry in variant.certified]
    best = max(entries, key=lambda entry: entry.accuracy, default=None)
    reading = subject.reading(best) if best else None
    if reading is None or not reading.by_label:
        return
    shares = [
        (right / n, label.name)
        for (right, n), label in zip(reading.by_label, subject.zoo.labels, strict=True)
        if n
    ]
    told = ", ".join(f"{name} {share:.0%}" for share, name in sorted(shares)[:WEAKEST])
    yield f"Least sure of ({reading.variant}, {reading.precision}, `val`): {told}."
    yield ""


def _record(path: Path) -> Mapping[str, Any]:
    """The record of training; nothing where the weights came without one."""
    text = _text(path)
    try:
        record: dict[str, Any] = json.loads(text) if text else {}
    except ValueError as error:
        raise CatalogError(f"{path} is no record of training: export the weights again") from error
    return record


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _spark(values: Sequence[float]) -> str:
    step = max(1, len(values) // CURVE_POINTS)
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values[::step])
