"""What a child can be asked to do with a file of unknown origin."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnv4serve.artifacts import Target
from mnv4serve.backends.cpu import openvino
from mnv4serve.build import verify
from mnv4serve.build.foreign.complaint import trying
from mnv4serve.build.foreign.declared import declared_beside
from mnv4serve.build.foreign.propose import propose
from mnv4serve.build.foreign.run import logits, open_file
from mnv4serve.build.foreign.score import Trial, marks
from mnv4serve.build.foreign.values import Way, Wishes
from mnv4serve.catalog import Network, Preprocessing, load_catalog
from mnv4serve.domain import BackendName, Precision

ALIKE = 1e-5
"""Relative difference up to which answers to different pictures are the same."""

Step = Callable[[], Any]


def _propose(task: Mapping[str, Any], step: Step) -> object:
    """How to serve the file; its copy with everything inside lies at `whole` then."""
    del step
    path = Path(task["path"])
    runner = open_file(path)
    if runner.facts.declared is None:
        runner.facts = replace(runner.facts, declared=declared_beside(path))
    wishes = Wishes.model_validate(task["wishes"])
    found = propose(runner, wishes, n_labels=task["n_labels"])
    Path(task["whole"]).write_bytes(runner.whole)
    return found.model_dump(mode="json")


def _score(task: Mapping[str, Any], step: Step) -> object:
    """Marks of each way on labelled files."""
    trial = Trial(
        runner=open_file(Path(task["path"])),
        network=Network.model_validate(task["network"]),
        resolution=task["resolution"],
        n_labels=task["n_labels"],
        files=[(Path(path), label) for path, label in task["files"]],
    )
    return [marks(trial, Way.model_validate(way), step) for way in task["ways"]]


def _reference(task: Mapping[str, Any], step: Step) -> object:
    """The file's own logits for pictures at `pixels`, written to `out`; what is wrong with them."""
    del step
    runner = open_file(Path(task["path"]))
    found = logits(
        runner,
        Network.model_validate(task["network"]),
        Preprocessing.model_validate(task["preprocessing"]),
        np.load(task["pixels"], allow_pickle=False),
        n_labels=task["n_labels"],
    )
    np.savez(task["out"], logits=found)
    if not np.isfinite(found).all():
        return "no numbers"
    moved, largest = np.ptp(found, axis=0).max(initial=0), np.abs(found).max(initial=0)
    return "the same" if moved <= ALIKE * largest else ""


def _wrap(task: Mapping[str, Any], step: Step) -> None:
    """Write the ONNX file that takes pixels and gives logits to `out`."""
    del step
    from mnv4serve.build.foreign import onnx_file  # noqa: PLC0415  # no .tflite file needs onnx
    from mnv4serve.build.foreign.onnx_wrap import wrapped  # noqa: PLC0415

    content = wrapped(
        onnx_file.load(Path(task["path"])),
        Network.model_validate(task["network"]),
        Preprocessing.model_validate(task["preprocessing"]),
        resolution=task["resolution"],
        n_labels=task["n_labels"],
    )
    out = Path(task["out"])
    if task["backend"] == BackendName.CPU:
        runtime, path = openvino(), Path(task["path"])
        read = runtime.Core().read_model
        model = trying(path, "OpenVINO cannot read it", lambda: read(content, b""))
        runtime.save_model(model, out, compress_to_fp16=False)
    else:
        out.write_bytes(content)


def _prove(task: Mapping[str, Any], step: Step) -> object:
    """The deviation of a built artifact."""
    del step
    catalog = load_catalog(Path(task["catalog"]))
    _, zoo = catalog.zoo()
    target = Target(task["variant"], BackendName(task["backend"]), Precision(task["precision"]))
    return verify.prove(catalog, zoo, target, Path(task["path"]))


TASKS: Mapping[str, Callable[[Mapping[str, Any], Step], object]] = {
    "propose": _propose,
    "score": _score,
    "reference": _reference,
    "wrap": _wrap,
    "prove": _prove,
}
