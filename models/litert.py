"""Write ready-made int8 files for LiteRT and the Edge TPU: the maintainer's command.

    python models/litert.py conv_small@160 conv_small_050@96 [--models DIR] [--zoo ZOO]

Writes litert/ZOO/VARIANT.tflite below models/ and names it in catalog.toml, from where a machine
without torch takes it. `mnv4serve certify` renews the files that are there.
"""

import argparse
import sys
import time
from pathlib import Path

from mnv4serve.artifacts import Target, unfit
from mnv4serve.backends.litert_file import read
from mnv4serve.build.catalog_file import save_catalog, with_variant
from mnv4serve.build.litert_gates import streamed_bytes
from mnv4serve.build.ready import write_ready
from mnv4serve.catalog import Catalog, load_catalog
from mnv4serve.domain import BackendName, Precision


def with_ready(catalog: Catalog, zoo_name: str, name: str) -> Catalog:
    """The catalog naming a variant's file, which is written."""
    _, zoo = catalog.zoo(zoo_name)
    reason = unfit(zoo, Target(name, BackendName.LITERT, Precision.INT8))
    if reason:
        sys.exit(reason)
    begin_s = time.perf_counter()
    file = write_ready(catalog, zoo_name, name)
    taken_s = time.perf_counter() - begin_s
    content = catalog.read(file)
    streamed = streamed_bytes(read(content))
    sys.stdout.write(
        f"{name}: {len(content)} bytes, streams {streamed} bytes per inference, "
        f"converted in {taken_s:.1f} s\n"
    )
    variant = zoo.variant(name).model_copy(update={"ready": file})
    return with_variant(catalog, zoo_name, zoo.checkpoint(variant.checkpoint), variant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", help="for example conv_small_050@96")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent)
    parser.add_argument("--zoo", default="imagenette")
    flags = parser.parse_args()
    catalog = load_catalog(flags.models)
    for name in flags.variants:
        catalog = with_ready(catalog, flags.zoo, name)
    save_catalog(catalog)


if __name__ == "__main__":
    main()
