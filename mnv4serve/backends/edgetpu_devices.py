"""Which Edge TPUs there are, which of them is meant, and why one cannot be used.

libedgetpu gives no reasons: every failure to open is the same empty error. So the reasons are
found by looking afterwards, at the hardware that the kernel shows and at who holds it.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mnv4serve.domain import BackendName
from mnv4serve.errors import BackendUnavailable

PREFIX = "edgetpu"
LIBRARIES = ("libedgetpu.so.1", "libedgetpu.1.dylib", "edgetpu.dll")
LIBRARY_VARIABLE = "EDGETPU_LIBRARY"
SYSFS = Path("/sys")
_USB_IDS = frozenset({("1a6e", "089a"), ("18d1", "9302")})
"""A stick before and after its firmware is loaded."""


class Trouble(StrEnum):
    """Why an Edge TPU cannot be used, with what to do about it."""

    NO_LIBRARY = "libedgetpu is not installed: install it or name it in EDGETPU_LIBRARY"
    NO_DEVICE = "no Edge TPU is attached: plug one in and look at `mnv4serve doctor`"
    BUSY = "another process uses the Edge TPU"
    PERMISSION = "this user may not open the Edge TPU: add it to the group of the device node"
    INCOMPATIBLE_RUNTIME = (
        "libedgetpu crashed while it was loaded: it was built for another LiteRT, install a build "
        "for TensorFlow 2.16 or newer"
    )
    NOT_COMPILED = "the model is not compiled for the Edge TPU"


@dataclass(frozen=True, slots=True)
class Device:
    """One Edge TPU as libedgetpu lists it."""

    kind: str
    """`pci` or `usb`."""
    path: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """One Edge TPU as the kernel shows it."""

    path: str
    node: Path | None
    """What has to be opened, where that is known."""
    owner: int | None = None
    """Process that holds it, where the kernel tells."""


def library_names(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names under which libedgetpu is looked for; only the configured one where there is one."""
    named = environment.get(LIBRARY_VARIABLE)
    return (named,) if named else LIBRARIES


def attached(sysfs: Path = SYSFS) -> tuple[Hardware, ...]:
    """The Edge TPUs that the kernel shows, whether they can be used or not."""
    return (*_pci(sysfs), *_usb(sysfs))


def chosen(name: str, devices: Sequence[Device]) -> int:
    """The place in libedgetpu's list of `edgetpu`, `edgetpu:N` or `edgetpu:PATH`.

    Paths are what to configure: the order of the list may change from start to start.
    """
    _, _, wanted = name.partition(":")
    paths = [device.path for device in devices]
    if wanted in paths:
        return paths.index(wanted)
    number = int(wanted or 0) if wanted.isdigit() or not wanted else len(devices)
    if number < len(devices):
        return number
    there = f"there are {', '.join(paths)}" if paths else Trouble.NO_DEVICE
    raise unavailable(f"{name} is not attached; {there}")


def diagnose(hardware: Sequence[Hardware]) -> str:
    """Why libedgetpu lists or opens no device, judged by what the kernel shows."""
    if not hardware:
        return Trouble.NO_DEVICE
    first = hardware[0]
    if first.owner:
        return f"{Trouble.BUSY}: process {first.owner} holds {first.path}"
    if first.node and first.node.exists() and not os.access(first.node, os.R_OK | os.W_OK):
        return f"{Trouble.PERMISSION} {first.node}"
    return f"libedgetpu cannot open {first.path}: unplug it and plug it in again"


def unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable(BackendName.EDGETPU, reason)


class Claim:
    """Keeps other processes of ours off a device: a second opener would end the first."""

    def __init__(self, path: str, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir())
        self._file = folder / f"mnv4serve-edgetpu{re.sub(r'[^A-Za-z0-9]+', '-', path)}.lock"
        self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._handle, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._handle)
            raise unavailable(f"{Trouble.BUSY}: process {owner} holds {path}") from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next process have the device."""
        os.close(self._handle)


def _pci(sysfs: Path) -> list[Hardware]:
    found = []
    for entry in sorted((sysfs / "class/apex").glob("apex_*")):
        owned = _text(entry / "is_device_owned") not in {"", "0"}
        owner = _text(entry / "device_owner")
        pid = int(owner) if owned and owner.isdigit() else None
        node = Path("/dev") / entry.name
        found.append(Hardware(str(node), node, pid or None))
    return found


def _usb(sysfs: Path) -> list[Hardware]:
    found = []
    for entry in sorted((sysfs / "bus/usb/devices").glob("*")):
        if (_text(entry / "idVendor"), _text(entry / "idProduct")) in _USB_IDS:
            bus, number = _text(entry / "busnum"), _text(entry / "devnum")
            known = bus.isdigit() and number.isdigit()
            node = Path(f"/dev/bus/usb/{int(bus):03}/{int(number):03}") if known else None
            found.append(Hardware(str(entry), node))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
