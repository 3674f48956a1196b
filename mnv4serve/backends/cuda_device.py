"""Which NVIDIA GPUs can be used, at which precisions, and why not.

Torch is imported only where there is a driver to use it with.
"""

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from mnv4serve.backends import Availability
from mnv4serve.domain import BackendName, Precision
from mnv4serve.errors import BackendUnavailable

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
INSTALL = "pip install mnv4serve[gpu]"

Capability = tuple[int, int]

TENSOR_FP16: Capability = (7, 0)
TENSOR_BF16: Capability = (8, 0)
"""From which generation on a precision is computed by hardware made for it."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device as the driver describes it."""

    name: str
    capability: Capability
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found on this machine, before it is judged."""

    torch: str = ""
    """Version of PyTorch, empty where it is not installed."""
    cuda: str = ""
    """Version of CUDA that PyTorch was built for, empty for a build without."""
    driver: bool = False
    trouble: str = ""
    """Why PyTorch could not start CUDA."""
    gpus: tuple[Gpu, ...] = ()
    generations: tuple[str, ...] = ()
    """That this build of PyTorch has code for, as `sm_90` or, for later ones too, `compute_90`."""


def probe() -> Availability:
    """The GPUs that can be used here; else why there is none."""
    return judged(facts())


def judged(found: Facts) -> Availability:
    """Facts as the service reads them: the devices that will work, and what they all compute."""
    usable = [
        (number, gpu)
        for number, gpu in enumerate(found.gpus)
        if supported(gpu.capability, found.generations)
    ]
    names = ", ".join(dict.fromkeys(gpu.name for _, gpu in usable))
    runtime = f"torch {found.torch}" if found.torch else ""
    if usable:
        runtime += f", CUDA {found.cuda}, {names}"
    return Availability(
        BackendName.CUDA,
        available=bool(usable),
        runtime=runtime,
        devices=tuple(f"cuda:{number}" for number, _ in usable),
        precisions=_common([gpu.capability for _, gpu in usable]),
        reason="" if usable else _why_none(found),
    )


def precisions(capability: Capability) -> tuple[Precision, ...]:
    """What a generation of GPUs computes natively."""
    found = [Precision.FP32]
    if capability >= TENSOR_FP16:
        found.append(Precision.FP16)
    if capability >= TENSOR_BF16:
        found.append(Precision.BF16)
    return tuple(found)


def supported(capability: Capability, generations: Sequence[str]) -> bool:
    """Whether a build has code for a GPU: of its own major version, or portable and not newer."""
    known = [_generation(name) for name in generations]
    return any(
        (portable and at <= capability) or (at[0] == capability[0] and at[1] <= capability[1])
        for portable, at in known
    )


def require(device: str) -> int:
    """The number of a device that can be used; raises BackendUnavailable saying why it cannot."""
    found = probe()
    if not found.available:
        raise BackendUnavailable(BackendName.CUDA, found.reason)
    named = "cuda:0" if device == "cuda" else device
    if named not in found.devices:
        there = ", ".join(found.devices)
        raise BackendUnavailable(BackendName.CUDA, f"there is no {device} here, only {there}")
    return int(named.partition(":")[2])


@cache
def facts() -> Facts:
    """Look once: starting CUDA takes seconds, and what it finds does not change."""
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return Facts()
    built_without = installed.endswith("+cpu")
    driver = _has_driver()
    if built_without or not driver:
        return Facts(installed, "" if built_without else "unknown", driver)
    return _asked(installed)


def _asked(installed: str) -> Facts:
    import torch  # noqa: PLC0415  # seconds and memory that only a machine with a GPU spends

    cuda = torch.version.cuda or ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        gpus = tuple(_described(number) for number in range(torch.cuda.device_count()))
    except (RuntimeError, AssertionError) as error:
        return Facts(installed, cuda, driver=True, trouble=" ".join(str(error).split()))
    generations = tuple(torch.cuda.get_arch_list())
    return Facts(installed, cuda, driver=True, gpus=gpus, generations=generations)


def _described(number: int) -> Gpu:
    import torch  # noqa: PLC0415

    found = torch.cuda.get_device_properties(number)
    return Gpu(found.name, (found.major, found.minor), found.total_memory)


def _why_none(found: Facts) -> str:
    if not found.torch:
        return f"PyTorch is not installed: {INSTALL}"
    if not found.cuda:
        return (
            f"PyTorch {found.torch} is built without CUDA: pip install --force-reinstall "
            f"torch=={found.torch.partition('+')[0]} from PyPI, which has it on Linux"
        )
    if not found.driver:
        return "there is no NVIDIA driver: install it and look at `nvidia-smi`"
    if found.trouble:
        return f"CUDA does not start ({found.trouble}): look at `nvidia-smi`"
    if not found.gpus:
        return "there is no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides it"
    oldest = " and ".join(f"{g.name} ({g.capability[0]}.{g.capability[1]})" for g in found.gpus)
    return f"PyTorch {found.torch} has no code for {oldest}: it is built for newer GPUs"


def _generation(name: str) -> tuple[bool, Capability]:
    """`sm_90` is code for 9.x, `compute_90` is compiled for whatever is there when it is loaded."""
    number = int(re.sub(r"\D", "", name) or "0")
    return name.startswith("compute_"), divmod(number, 10)


def _common(capabilities: Sequence[Capability]) -> tuple[Precision, ...]:
    return precisions(min(capabilities)) if capabilities else ()


def _has_driver() -> bool:
    for name in DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
