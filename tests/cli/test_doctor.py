"""Behaviour of mnv4serve.cli.doctor."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mnv4serve.backends import Availability, has_device
from mnv4serve.backends.edgetpu_heat import Heat
from mnv4serve.cli.doctor import _hot, _table, judge
from mnv4serve.config import PoolConfig
from mnv4serve.domain import BackendName, Precision

GPU = Availability(
    BackendName.CUDA,
    available=True,
    runtime="torch 2.13.0, CUDA 13.0, NVIDIA H100",
    devices=("cuda:0", "cuda:1"),
    precisions=(Precision.FP32, Precision.FP16),
)
NO_GPU = Availability(
    BackendName.CUDA,
    available=False,
    runtime="torch 2.13.0",
    devices=(),
    precisions=(),
    reason="there is no NVIDIA driver",
)


def cuda(device: str, name: str | None = None) -> PoolConfig:
    return PoolConfig(device=device, backends=(BackendName.CUDA,), name=name)


@pytest.mark.parametrize(
    ("found", "named", "pools", "why_not"),
    [
        (GPU, [cuda("cuda:1"), cuda("cuda", "first")], ("cuda:1", "first"), ""),
        (GPU, [cuda("cuda:0"), cuda("cuda:7")], ("cuda:0",), ""),
        (GPU, [cuda("cuda:7")], (), "wants cuda:7, here is cuda:0, cuda:1"),
        (GPU, [], (), "add {device: 'cuda:0', backends: [cuda]} to `pools`"),
        (NO_GPU, [cuda("cuda:0")], (), "there is no NVIDIA driver"),
        (NO_GPU, [], (), "there is no NVIDIA driver"),
    ],
)
def test_a_backend_is_used_or_there_is_a_reason(
    found: Availability, named: list[PoolConfig], pools: tuple[str, ...], why_not: str
) -> None:
    """By the pools whose device is there; else the first thing that would have to change."""
    diagnosis = judge(found, named)

    assert diagnosis.pools == pools
    assert diagnosis.why_not.endswith(why_not)
    assert bool(diagnosis.pools) is not bool(diagnosis.why_not)


def test_what_to_add_is_shown_as_it_has_to_be_written() -> None:
    """Brackets stay in the table."""
    page = Console(width=400, file=io.StringIO(), record=True)

    page.print(_table([judge(GPU, [])]))

    assert "backends: [cuda]}" in page.export_text()


def test_simulated_devices_are_whole_and_told_from_real_ones(tmp_path: Path) -> None:
    """By names that can be copied into a configuration, with what the hardware itself lacks."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    config = tmp_path / "mixed.yaml"
    config.write_text("pools:\n  - {device: 'edgetpu:simulated-usb3', backends: [edgetpu]}\n")
    environment = {**os.environ, "EDGETPU_LIBRARY": str(tmp_path / "none.so")}
    command = [sys.executable, "-m", "mnv4serve", "doctor", "--config", str(config)]

    shown = subprocess.check_output(command, env=environment, text=True)
    told = subprocess.check_output([*command, "--json"], env=environment)

    edgetpu = next(one for one in json.loads(told)["backends"] if one["backend"] == "edgetpu")
    assert edgetpu["why_not"] == ""
    assert edgetpu["real"].startswith("simulated; libedgetpu is not installed")
    assert edgetpu["precisions"] == ["int8"]
    assert all(device in shown for device in edgetpu["devices"])


def test_one_backend_can_be_asked_for_by_scripts() -> None:
    """Exit code 1 and its reason where it cannot be used, 0 where it can; the document is whole."""

    def asked(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mnv4serve", "doctor", "--backend", name, "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)

    for name in ("cpu", "cuda"):
        done = asked(name)

        (found,) = json.loads(done.stdout)["backends"]
        assert found["backend"] == name
        assert done.returncode == (0 if found["available"] else 1)
        assert found["available"] or f"backend {name} is not available" in done.stderr


def test_a_hot_card_is_told_with_what_it_costs() -> None:
    """Its temperature below its name, and how much of the clock is left; others unchanged."""
    card = {"/dev/apex_0": Heat(61.25, (85.0,)), "/dev/apex_1": Heat(91.0, (85.0, 90.0))}

    assert _hot("edgetpu:/dev/apex_0", card) == "edgetpu:/dev/apex_0\n(61 °C)"
    assert _hot("edgetpu:/dev/apex_1", card).endswith("(91 °C, at 25% of its clock for heat)")
    assert _hot("cpu", card) == "cpu"


STICKS = ("edgetpu:/sys/bus/usb/devices/2-1", "edgetpu:/dev/apex_0")


@pytest.mark.parametrize(
    ("device", "there"),
    [
        ("edgetpu", True),
        ("edgetpu:1", True),
        ("edgetpu:/dev/apex_0", True),
        ("edgetpu:2", False),
        ("edgetpu:/dev/apex_1", False),
        ("edgetpu:simulated-usb3", False),
        ("cuda:0", False),
        ("cpu", False),
    ],
)
def test_a_device_is_there_by_path_by_number_or_as_the_first(device: str, there: bool) -> None:  # noqa: FBT001
    """As opening it would decide; a simulated one never stands in for a real one."""
    found = Availability(
        BackendName.EDGETPU, available=True, runtime="", devices=STICKS, precisions=()
    )

    assert has_device(found, device) is there


def test_gpus_are_counted_as_they_are_named() -> None:
    """A GPU that is hidden leaves a gap in the numbers, so counting would find another one."""
    assert has_device(GPU, "cuda:1")
    assert not has_device(replace(GPU, devices=("cuda:1",)), "cuda:0")
