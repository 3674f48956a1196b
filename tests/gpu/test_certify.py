"""What a GPU has to do right before it serves; nothing here can be shown without one."""

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
psutil = pytest.importorskip("psutil", reason="psutil is not installed")

import torch  # noqa: E402

from mnv4serve.artifacts import Target  # noqa: E402
from mnv4serve.backends import probe  # noqa: E402
from mnv4serve.backends.cuda import CudaBackend  # noqa: E402
from mnv4serve.backends.cuda_buckets import BUCKETS  # noqa: E402
from mnv4serve.backends.cuda_runtime import CACHE  # noqa: E402
from mnv4serve.backends.onnx import OnnxBackend  # noqa: E402
from mnv4serve.build.rounding import targets_of  # noqa: E402
from mnv4serve.build.verify import Evidence, deviation, device_for  # noqa: E402
from mnv4serve.catalog import open_catalog  # noqa: E402
from mnv4serve.domain import BackendName, Precision  # noqa: E402
from mnv4serve.errors import BackendUnavailable  # noqa: E402
from mnv4serve.profiler.timing import QUICK, measure, summarise  # noqa: E402
from tests.gpu.findings import Findings  # noqa: E402
from tests.gpu.subjects import Open, targets  # noqa: E402

ROUNDS = 12
SPARE_BYTES = 64 << 20
"""What caches of the driver and the allocators may come to over all rounds."""
LOSE_THE_DEVICE = Path(__file__).with_name("lose_device.py")


@pytest.fixture
def fp32(device: str) -> Target:
    assert device
    return next(t for t in targets() if t.backend is BackendName.CUDA)


def test_logits_equal_the_reference(
    target: Target, proof: Evidence, allowed: float, opened: Open, findings: Findings
) -> None:
    """For single pictures, full buckets, padded ones and batches that are divided."""
    with opened(target) as backend:
        for n in (1, 3, 32, 40):
            pixels = np.resize(proof.pixels, (max(n, len(proof.pixels)), *proof.pixels.shape[1:]))
            parts = [backend.infer(pixels[at : at + n]) for at in range(0, len(proof.pixels), n)]
            found = deviation(np.concatenate(parts)[: len(proof.logits)], proof.logits)

            assert found <= allowed
            worst = max(found, findings.deviations.get(target, (0.0, 0.0))[0])
            findings.deviations[target] = (worst, allowed)


def test_its_arms_can_be_given_an_accuracy(device: str) -> None:
    """`mnv4serve certify` judges every precision of the GPU, on the GPU."""
    _, zoo = open_catalog(None, Path("none"), None).zoo()

    judged = targets_of(zoo, zoo.variants[0])

    halves = probe(BackendName.CUDA).precisions
    assert {t.precision for t in judged if t.backend is BackendName.CUDA} == set(halves)
    assert device_for(BackendName.CUDA) == device


def test_every_slot_has_a_graph_for_every_bucket(target: Target, opened: Open) -> None:
    """None was given up for want of memory, and nothing else is run than what was captured."""
    with opened(target, slots=2) as backend:
        if isinstance(backend, CudaBackend):
            assert backend.buckets == (BUCKETS, BUCKETS)
        else:
            assert isinstance(backend, OnnxBackend)
            assert backend.buckets == BUCKETS


def test_batches_are_worth_it(target: Target, opened: Open, findings: Findings) -> None:
    """A picture in a full batch takes less than one alone: what batching is for."""
    side = int(target.variant.rpartition("@")[2])
    noise = np.random.default_rng(0)
    times: dict[int, float] = {}
    with opened(target) as backend:
        for size in BUCKETS:
            pixels = noise.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
            samples = measure(partial(backend.infer, pixels), effort=QUICK)
            times[size] = summarise(samples, quick=True).p50_ms
    findings.p50_ms[target] = times

    assert times[BUCKETS[-1]] / BUCKETS[-1] < times[1]


def test_slots_run_side_by_side(target: Target, proof: Evidence, opened: Open) -> None:
    """Streams, buffers and graphs of one slot do not get into another's way."""
    batches = [proof.pixels[slot * 3 : slot * 3 + 3] for slot in range(3)]
    wrong: list[int] = []
    with opened(target, slots=3) as backend:
        expected = [backend.infer(pixels, slot) for slot, pixels in enumerate(batches)]

        def work(slot: int) -> None:
            for _ in range(300):
                right = np.array_equal(backend.infer(batches[slot], slot), expected[slot])
                wrong.extend([] if right else [slot])

        threads = [Thread(target=work, args=(slot,)) for slot in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_nothing_leaks(target: Target, proof: Evidence, opened: Open, findings: Findings) -> None:
    """Opening, serving and closing again and again keeps no memory, of the GPU or the host."""
    host, gpu = [], []
    for _ in range(ROUNDS):
        with opened(target) as backend:
            for n in (*BUCKETS, 40):
                backend.infer(np.resize(proof.pixels, (n, *proof.pixels.shape[1:])))
        host.append(psutil.Process().memory_info().rss)
        gpu.append(-torch.cuda.mem_get_info()[0])
    settled = ROUNDS // 3
    grown = {name: max(0, x[-1] - x[settled]) for name, x in (("host", host), ("GPU", gpu))}
    findings.notes.append(f"{target}: {ROUNDS} times opened and closed, grown by {grown} bytes")

    assert all(n_bytes < SPARE_BYTES for n_bytes in grown.values())


def test_what_inductor_compiled_is_kept(
    fp32: Target, opened: Open, state_dir: Path, findings: Findings
) -> None:
    """In the state folder, where the next start of the service finds it."""
    with opened(fp32):
        pass

    kept = sum(1 for path in (state_dir / CACHE).rglob("*") if path.is_file())
    findings.notes.append(f"{kept} files of compiled kernels kept in the state folder")
    assert kept > 0 or find_spec("triton") is None


def test_little_memory_costs_large_batches_only(fp32: Target, opened: Open) -> None:
    """Or the arm, with a sentence; with memory again everything works."""
    with opened(fp32):
        pass
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (24 << 20)) / total)
    try:
        with opened(fp32) as backend:
            assert isinstance(backend, CudaBackend)
            assert backend.buckets[0] == BUCKETS[: len(backend.buckets[0])] != BUCKETS
    except BackendUnavailable as error:
        assert "memory" in error.reason  # noqa: PT017 - either of two is right
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    with opened(fp32) as backend:
        assert isinstance(backend, CudaBackend)
        assert backend.buckets == (BUCKETS,)


def test_a_broken_device_is_lost(fp32: Target, opened: Open, state_dir: Path) -> None:
    """In a process of its own, for CUDA does not recover from what it does there."""
    with opened(fp32):
        pass
    (path,) = list((state_dir / "artifacts").glob("*/model.safetensors"))[:1]
    arguments = [str(path)]

    done = subprocess.run(
        [sys.executable, str(LOSE_THE_DEVICE), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )

    assert done.stdout.strip().endswith("start the service again"), done.stderr


def test_the_command_line_serves_from_the_gpu(device: str, state_dir: Path, tmp_path: Path) -> None:
    """From configuration to answer: builds, measures, routes, and says where it ran."""
    config = tmp_path / "gpu.yaml"
    config.write_text(f"pools: [{{device: '{device}', backends: [cuda]}}]\n", encoding="utf-8")
    environment = {**os.environ, "MNV4SERVE_CONFIG": str(config)}
    environment["MNV4SERVE_STATE_DIR"] = str(state_dir)
    name = targets()[0].variant
    command = [sys.executable, "-m", "mnv4serve"]
    picture = "models/examples/golf_ball.jpg"
    precision = Precision.FP32

    for arguments in (
        ["build", name, "--backend", "cuda", "--precision", precision],
        ["classify", picture, "--variant", name, "--backend", "cuda", "--json"],
    ):
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    assert f'"device": "{device}"' in done.stdout
    assert '"label": "golf ball"' in done.stdout
