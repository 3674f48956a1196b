"""Release an exported checkpoint of the imagenette zoo: the maintainer's command.

    python models/release.py conv_small --data IMAGENETTE [--resolutions 128,224] [--models DIR]

Reads weights/imagenette/NAME.safetensors, its statistics NAME@PX.bn.safetensors and the record of
its training NAME.json below models/, computes ranges and reference logits, builds every artifact
that this machine can run, measures it on DATA/val, and writes catalog.toml.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from mnv4serve.build.catalog_file import save_catalog
from mnv4serve.build.release import Releaser, Sources, describe
from mnv4serve.catalog import (
    CATALOG_FILE,
    Catalog,
    Checkpoint,
    File,
    Label,
    Preprocessing,
    Zoo,
    load_catalog,
)

ZOO = "imagenette"
LABELS = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
HALF = (0.5, 0.5, 0.5)


def empty_catalog(models: Path) -> Catalog:
    """The zoo's labels and preprocessing, without any variant."""
    blank = Catalog(root=models, default_zoo=ZOO, zoos={})
    pictures: File = describe(blank, "verify/pictures.npz")
    zoo = Zoo(
        title="Imagenette: ten classes of ImageNet that are easy to tell apart",
        labels=tuple(Label(id=key, name=name) for key, name in LABELS.items()),
        preprocessing=Preprocessing(resize="squash", mean=HALF, std=HALF),
        pictures=pictures,
        checkpoints=(),
        variants=(),
    )
    return blank.model_copy(update={"zoos": {ZOO: zoo}})


def read_checkpoint(catalog: Catalog, name: str) -> Checkpoint:
    """A checkpoint's entry from its weights and the record of its training."""
    record = json.loads((catalog.root / f"weights/{ZOO}/{name}.json").read_text(encoding="utf-8"))
    run = record["run"]
    return Checkpoint(
        name=name,
        architecture=record["architecture"],
        weights=describe(catalog, f"weights/{ZOO}/{name}.safetensors"),
        data=ZOO,
        command=run["command"],
        seed=run["recipe"]["seed"],
        date=run["updated"][:10],
        card="README.md",
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="checkpoint, for example conv_small")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--resolutions", default="96,128,160,192,224")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent)
    flags = parser.parse_args()
    if not (flags.models / CATALOG_FILE).exists():
        save_catalog(empty_catalog(flags.models))
    catalog = load_catalog(flags.models)
    sources = Sources(flags.data / "train", flags.data / "val", split=f"{ZOO} val")
    with tempfile.TemporaryDirectory() as state:
        releaser = Releaser(ZOO, sources, Path(state), report=say)
        resolutions = [int(text) for text in flags.resolutions.split(",")]
        releaser.release(catalog, read_checkpoint(catalog, flags.name), resolutions)


if __name__ == "__main__":
    main()
