"""What the litert backend costs beside the bare interpreter that it uses.

    python -m loadtests.litert_overhead conv_small@224 --rounds 400

Both run in turns on the same file and picture, and each round gives one ratio: what else happens
on the machine meets both alike. Bare means set_tensor, invoke, get_tensor.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.table import Table

from loadtests.flags import command_line, count
from loadtests.report import console
from mnv4serve.artifacts import Target
from mnv4serve.backends import Artifact, litert_file, open_backend
from mnv4serve.backends.litert import open_interpreter
from mnv4serve.build import build_artifact
from mnv4serve.catalog import load_catalog
from mnv4serve.config import load_config
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import MnvError

THREADS = (1, 2)
LIMIT = 1.05
"""How many times the bare interpreter's time the backend may take."""
WARM_UP = 50
TURN = 5
"""Runs of one before the other has its turn."""
PAUSE_S = 0.01
"""Before each turn, until the threads of the other have stopped waiting for work."""


def artifact_of(subject: str) -> Artifact:
    """A variant's as it is served, built where it is missing, or a file's."""
    if not subject.endswith(".tflite"):
        config = load_config(file=None, flags={})
        catalog = load_catalog(config.models)
        target = Target(subject, BackendName.LITERT, Precision.INT8)
        return build_artifact(catalog, catalog.zoo()[1], target, state_dir=config.state_dir)
    path = Path(subject)
    contents = litert_file.read(path.read_bytes())
    ((_, shape),), ((_, answer),) = contents.ends("inputs"), contents.ends("outputs")
    return Artifact(
        path, BackendName.LITERT, Precision.INT8, path.stem, shape[1], answer[1], digest=""
    )


def bare(path: Path, pixels: np.ndarray, threads: int) -> Callable[[], object]:
    interpreter = open_interpreter(path, threads)
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
    picture = (pixels.astype(np.int16) - 128).astype(np.int8)

    def run() -> object:
        interpreter.set_tensor(first["index"], picture)
        interpreter.invoke()
        return interpreter.get_tensor(last["index"])

    return run


def turn_ms(run: Callable[[], object]) -> float:
    time.sleep(PAUSE_S)
    run()
    start = time.perf_counter()
    for _ in range(TURN):
        run()
    return (time.perf_counter() - start) * 1000 / TURN


def compare(artifact: Artifact, threads: int, rounds: int) -> tuple[float, float, float]:
    """Medians of the bare run, of ours and of their ratio."""
    side = artifact.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    plain = bare(artifact.path, pixels, threads)
    backend = open_backend(artifact, device="cpu", slots=1, threads=threads)
    for _ in range(WARM_UP):
        plain()
        backend.infer(pixels)
    times = [(turn_ms(plain), turn_ms(lambda: backend.infer(pixels))) for _ in range(rounds)]
    theirs, ours = np.array(times).T
    return float(np.median(theirs)), float(np.median(ours)), float(np.median(ours / theirs))


def main() -> None:
    parser = command_line("loadtests.litert_overhead", __doc__)
    parser.add_argument(
        "subject", nargs="?", default="conv_small@224", help="a variant, or an int8 .tflite"
    )
    parser.add_argument("--rounds", type=count, default=400, help="default %(default)s")
    flags = parser.parse_args()
    try:
        artifact = artifact_of(flags.subject)
    except (MnvError, OSError) as error:
        sys.exit(str(error))
    table = Table("threads", "bare p50 ms", "litert p50 ms", "ratio", title=artifact.variant)
    ratios = []
    for threads in THREADS:
        theirs, ours, ratio = compare(artifact, threads, flags.rounds)
        table.add_row(str(threads), f"{theirs:.3f}", f"{ours:.3f}", f"{ratio:.3f}")
        ratios.append(ratio)
    console.print(table)
    if max(ratios) > LIMIT:
        sys.exit(f"the backend costs more than {LIMIT - 1:.0%} beside the bare interpreter")


if __name__ == "__main__":
    main()
