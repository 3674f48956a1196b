"""Write README.md, the model cards, from catalog.toml and the records of training.

python models/cards.py
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnv4serve.arch.model import create_model, macs, parameter_count
from mnv4serve.catalog import Catalog, Checkpoint, Variant, Zoo, load_catalog
from mnv4serve.significance import wilson_interval

ZOO = "imagenette"
BARS = "▁▂▃▄▅▆▇█"
CURVE_POINTS = 40

HEAD = """# Models

Written by `python models/cards.py`; numbers come from `catalog.toml` and the training records.

`weights/` holds half-precision parameters per checkpoint, batch-norm statistics and int8 ranges per resolution;
`verify/` the pictures and reference logits that every build is checked against; `examples/` a picture rendered by us.
Nothing here is executed: safetensors, npz without pickles, JSON and TOML.

## Data and licence

Imagenette: ten easily told classes of ImageNet, 9,469 pictures to train on and 3,525 to validate, squashed to 224x224.
The pictures come under ImageNet's terms for non-commercial research; weights trained on them are shipped for the same use.
Training starts from random weights: ImageNet checkpoints have seen most of the validation pictures. Of `train/`, pictures
whose file name's SHA-256 is 0 modulo 10 are the `dev` split: not trained on, every choice is made on them. `val/` is read
to report only.

## Known weaknesses

- A picture of none of the ten classes gets one of them, often with confidence: probabilities are not calibrated.
- Trained on whole pictures squashed to a square: thin crops and tiny objects do worse.
- int8 may score above fp32: its ranges clip activations that a few unusual pictures drive far beyond the usual.
"""


def render(catalog: Catalog) -> str:
    """The whole README.md."""
    _, zoo = catalog.zoo(ZOO)
    cards = [line for checkpoint in zoo.checkpoints for line in _card(catalog, zoo, checkpoint)]
    return HEAD + "\n".join(["", *cards, ""])


def _card(catalog: Catalog, zoo: Zoo, checkpoint: Checkpoint) -> Iterator[str]:
    record = _record(catalog, checkpoint)
    run = record["run"]
    model = create_model(checkpoint.architecture, len(zoo.labels))
    yield f"## {checkpoint.name}"
    yield ""
    yield f"{parameter_count(model) / 1e6:.2f} M parameters; trained {checkpoint.date} with"
    yield ""
    yield f"    {run['command']}"
    yield ""
    yield (
        f"on {run['train_pictures']:,} pictures, judged on {run['dev_pictures']} of `dev`; the "
        f"{record['weights']} weights were the better ones there. Accuracy on `dev` by epoch, "
        f"{run['curve'][0]['dev_accuracy']:.2f} to {_best(run):.2f}:"
    )
    yield ""
    yield f"    {_spark([point['dev_accuracy'] for point in run['curve']])}"
    yield ""
    yield "| variant | MMACs | dev | backend | precision | val | 95 % interval |"
    yield "|---|---|---|---|---|---|---|"
    for variant in zoo.variants:
        if variant.checkpoint == checkpoint.name:
            yield from _rows(checkpoint, variant, record, len(zoo.labels))
    yield ""


def _rows(
    checkpoint: Checkpoint, variant: Variant, record: dict[str, Any], n_labels: int
) -> Iterator[str]:
    mega = macs(checkpoint.architecture, variant.resolution, n_labels) / 1e6
    dev = record["dev_accuracy"][str(variant.resolution)]
    for entry in variant.certified:
        low, high = wilson_interval(round(entry.accuracy * entry.n), entry.n)
        yield (
            f"| `{variant.name}` | {mega:.0f} | {dev:.4f} | {entry.backend} | {entry.precision} "
            f"| {entry.accuracy:.4f} of {entry.n} | {low:.4f} to {high:.4f} |"
        )


def _record(catalog: Catalog, checkpoint: Checkpoint) -> dict[str, Any]:
    path = catalog.root / f"weights/{ZOO}/{checkpoint.name}.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _best(run: dict[str, Any]) -> float:
    return float(max(point["dev_accuracy"] for point in run["curve"]))


def _spark(values: list[float]) -> str:
    step = max(1, len(values) // CURVE_POINTS)
    low, high = min(values), max(values)
    return "".join(
        BARS[round((value - low) / (high - low) * (len(BARS) - 1))] for value in values[::step]
    )


def main() -> None:
    models = Path(__file__).parent
    (models / "README.md").write_text(render(load_catalog(models)), encoding="utf-8")
    sys.stdout.write(f"wrote {models / 'README.md'}\n")


if __name__ == "__main__":
    main()
