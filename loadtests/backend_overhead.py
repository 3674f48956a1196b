"""What the backends cpu and onnx cost beside the bare runtimes that they use, on one thread.

    python -m loadtests.backend_overhead conv_small@224 --rounds 400

Both run in turns on the same file and picture, and each round gives one ratio: what else happens
on the machine meets both alike. Bare means one call of the runtime with the picture, and its
answer. `loadtests.litert_overhead` does the same for litert.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from loadtests.flags import command_line, count
from loadtests.litert_overhead import LIMIT, WARM_UP, turn_ms
from loadtests.report import console
from mnv4serve.artifacts import Target, available_targets
from mnv4serve.backends import Artifact, open_backend, probe
from mnv4serve.backends.cpu import openvino
from mnv4serve.backends.onnx import onnxruntime
from mnv4serve.build import build_artifact
from mnv4serve.catalog import load_catalog
from mnv4serve.config import load_config
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import MnvError

BACKENDS = (BackendName.CPU, BackendName.ONNX)
Pixels = NDArray[np.uint8]
Infer = Callable[[Pixels], NDArray[np.float32]]


def bare(artifact: Artifact) -> Infer:
    """An artifact's file as the runtime's own documentation runs it."""
    return bare_openvino(artifact) if artifact.backend is BackendName.CPU else bare_onnx(artifact)


def bare_openvino(artifact: Artifact) -> Infer:
    core = openvino().Core()
    model = core.read_model(artifact.path)
    model.reshape([1, artifact.resolution, artifact.resolution, 3])
    hint = "bf16" if artifact.precision is Precision.BF16 else "f32"
    properties = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def run(pixels: Pixels) -> NDArray[np.float32]:
        answer = request.infer([pixels], share_inputs=True)
        return np.asarray(answer[0])

    return run


def bare_onnx(artifact: Artifact) -> Infer:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        str(artifact.path), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda pixels: np.asarray(session.run(None, {name: pixels})[0])


def compare(artifact: Artifact, rounds: int) -> tuple[float, float, float]:
    """Medians of the bare run, of ours and of their ratio."""
    side = artifact.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    plain = bare(artifact)
    with closing(open_backend(artifact, device="cpu", slots=1, threads=1)) as backend:
        for _ in range(WARM_UP):
            plain(pixels)
            backend.infer(pixels)
        times = [
            (turn_ms(lambda: plain(pixels)), turn_ms(lambda: backend.infer(pixels)))
            for _ in range(rounds)
        ]
    theirs, ours = np.array(times).T
    return float(np.median(theirs)), float(np.median(ours)), float(np.median(ours / theirs))


def artifacts_of(name: str) -> list[Artifact]:
    """All that this machine runs of a variant, built where it is missing."""
    config = load_config(file=None, flags={})
    catalog = load_catalog(config.models)
    _, zoo = catalog.zoo()
    targets: tuple[Target, ...] = available_targets(zoo.variant(name), map(probe, BACKENDS))
    return [build_artifact(catalog, zoo, one, state_dir=config.state_dir) for one in targets]


def parser() -> argparse.ArgumentParser:
    flags = command_line("loadtests.backend_overhead", __doc__)
    flags.add_argument("variant", nargs="?", default="conv_small@224", help="default %(default)s")
    flags.add_argument("--rounds", type=count, default=400, help="default %(default)s")
    return flags


def main() -> None:
    options = parser().parse_args()
    try:
        artifacts = artifacts_of(options.variant)
    except MnvError as error:
        sys.exit(str(error))
    table = Table("backend", "bare p50 ms", "ours p50 ms", "ratio", title=options.variant)
    ratios = []
    for artifact in artifacts:
        theirs, ours, ratio = compare(artifact, options.rounds)
        name = f"{artifact.backend}/{artifact.precision}"
        table.add_row(name, f"{theirs:.3f}", f"{ours:.3f}", f"{ratio:.3f}")
        ratios.append(ratio)
    console.print(table)
    if max(ratios) > LIMIT:
        sys.exit(f"a backend costs more than {LIMIT - 1:.0%} beside its bare runtime")


if __name__ == "__main__":
    main()
