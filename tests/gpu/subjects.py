"""Which artifacts are tried on a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mnv4serve.artifacts import Target
from mnv4serve.backends import Backend, probe
from mnv4serve.catalog import open_catalog
from mnv4serve.domain import BackendName, Precision

Open = Callable[..., AbstractContextManager[Backend]]
"""A target, and how many slots -> its backend, which is closed at the end."""


def targets() -> list[Target]:
    """The smallest and the largest variant, on both runtimes, at every precision of the GPU."""
    _, zoo = open_catalog(None, Path("none"), None).zoo()
    by_size = sorted(zoo.variants, key=lambda variant: (variant.resolution, variant.checkpoint))
    halves = probe(BackendName.CUDA).precisions or (Precision.FP32,)
    return [
        Target(variant.name, backend, precision)
        for variant in (by_size[0], by_size[-1])
        for backend, precisions in ((BackendName.CUDA, halves), (BackendName.ONNX, halves[:1]))
        for precision in precisions
    ]
