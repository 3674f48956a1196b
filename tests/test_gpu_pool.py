"""A pool on a GPU from configuration to answer, with the processor in the GPU's place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="building needs torch")

from mnv4serve import host
from mnv4serve.backends import cuda, cuda_device, open_backend
from mnv4serve.backends.cuda_buckets import BUCKETS
from mnv4serve.backends.cuda_device import Facts, Gpu
from mnv4serve.build import build_all
from mnv4serve.build.verify import evidence
from mnv4serve.config import PoolConfig, ServiceConfig
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable
from mnv4serve.host import Host, profiled, survey
from mnv4serve.profiler import Profile, Progress
from mnv4serve.profiler.apart import Work
from tests.backends.cuda_double import Processor

P40 = Gpu("Tesla P40", (6, 1), 24 << 30)
PASCAL = Facts("2.13.0", "13.0", driver=True, gpus=(P40,), generations=("sm_60",))
POOL = PoolConfig(device="cuda:0", backends=(BackendName.CUDA,), slots=1)


@pytest.fixture
def site(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The tiny zoo on a machine with one GPU of 2016."""
    monkeypatch.setattr(cuda_device, "facts", lambda: PASCAL)
    monkeypatch.setattr(cuda, "facts", lambda: PASCAL)
    monkeypatch.setattr(cuda, "CudaRuntime", lambda _number, _cache: Processor())
    monkeypatch.setattr(host, "apart", here)  # another process would look for a real GPU
    return survey(ServiceConfig(models=tiny_models, state_dir=tmp_path, pools=(POOL,)))


def here(work: Work, *, progress: Progress) -> Profile:
    """Measure in this process."""
    return work(progress=progress)


def test_a_gpu_pool_is_built_proven_measured_and_answers(site: Host) -> None:
    """At the precisions of its generation, with a time for every bucket."""
    smallest = [target for target in site.targets if target.variant.endswith("@32")]
    built = build_all(site.catalog, site.zoo, smallest, state_dir=site.state_dir)
    candidates = site.loadable(POOL)
    profile = profiled(site, POOL, candidates, quick=True)

    assert not built.refused
    assert {target.precision for target in site.targets} == {Precision.FP32}
    assert all(tuple(sizes) == BUCKETS for sizes in profile.timings.values())
    assert {found.arm.device for found in candidates} == {"cuda:0"}
    for found in candidates:
        proof = evidence(site.catalog, site.zoo, site.zoo.variant(found.arm.variant))
        backend = open_backend(found.artifact, device=found.device, slots=1, threads=1)
        answers = backend.infer(proof.pixels).argmax(axis=1)
        backend.close()

        assert np.mean(answers == proof.logits.argmax(axis=1)) > 0.9


def test_a_precision_that_a_gpu_only_emulates_is_refused(site: Host) -> None:
    """Should an artifact come from a machine with a newer one."""
    target = site.targets[0]
    artifact = build_all(site.catalog, site.zoo, [target], state_dir=site.state_dir).artifacts[0]
    newer = replace(artifact, precision=Precision.FP16)

    with pytest.raises(BackendUnavailable, match="Tesla P40 does not compute fp16"):
        open_backend(newer, device="cuda:0", slots=1, threads=1)
