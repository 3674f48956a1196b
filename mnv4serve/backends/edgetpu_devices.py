"""Which Edge TPUs there are, which of them is meant, and why one cannot be used.

libedgetpu gives no reasons: every failure to open is the same empty error. So the reasons are
found by looking afterwards, at the hardware that the kernel shows and at who holds it.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mnv4serve.domain import BackendName
from mnv4serve.errors import BackendUnavailable

PREFIX = "edgetpu"
LIBRARIES = ("libedgetpu.so.1", "libedgetpu.1.dylib", "edgetpu.dll")
LIBRARY_VARIABLE = "EDGETPU_LIBRARY"
SYSFS = Path("/sys")
PROCESSES = Path("/proc")
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


def diagnose(hardware: Sequence[Hardware], path: str = "") -> str:
    """Why libedgetpu does not open the device at `path`, or lists none: what the kernel shows."""
    if not hardware:
        return Trouble.NO_DEVICE
    meant = next((one for one in hardware if path in ("", one.path)), None)
    if meant is None:
        return f"{path} is not attached any more: plug it in again"
    owner = meant.owner or (holder(meant.node) if meant.node else None)
    if owner:
        return f"{Trouble.BUSY}: process {owner} holds {meant.path}"
    if meant.node and meant.node.exists() and not os.access(meant.node, os.R_OK | os.W_OK):
        return f"{Trouble.PERMISSION} {meant.node}"
    return f"libedgetpu cannot open {meant.path}: unplug it and plug it in again"


def holder(node: Path, processes: Path = PROCESSES) -> int | None:
    """Another process that has a device node open, as far as this user may see.

    Sticks need it: of them the kernel names no owner.
    """
    for entry in processes.glob("[0-9]*"):
        if int(entry.name) != os.getpid() and node in _open_files(entry / "fd"):
            return int(entry.name)
    return None


def _open_files(folder: Path) -> Iterator[Path]:
    try:
        for entry in folder.iterdir():
            with suppress(OSError):  # closed by now
                yield entry.readlink()
    except OSError:  # gone, or another user's
        return


def unavailable(reason: str) -> BackendUnavailable:
    return BackendUnavailable(BackendName.EDGETPU, reason)


class Claim:
    """Keeps other processes of ours off a device: a second opener would end the first."""

    def __init__(self, path: str, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir())
        self._file = folder / f"mnv4serve-edgetpu{re.sub(r'[^A-Za-z0-9]+', '-', path)}.lock"
        try:
            self.handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise unavailable(
                f"the lock {self._file} cannot be opened ({error.strerror}): if it is another "
                "user's, end that service and remove it"
            ) from error
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self.handle, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self.handle)
            raise unavailable(f"{Trouble.BUSY}: process {owner} holds {path}") from error
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next process have the device, once no child that was given the file has it."""
        os.close(self.handle)


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
