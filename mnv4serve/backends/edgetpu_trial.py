"""First contact with libedgetpu, in a process of its own: some builds of it kill who loads them.

    python -m mnv4serve.backends.edgetpu_trial LIBRARY...

Prints the devices as one JSON document.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mnv4serve.backends.edgetpu_devices import Device, Trouble, unavailable
from mnv4serve.backends.edgetpu_pycoral import pycoral_runtime

TIMEOUT_S = 15.0
_KINDS = ("pci", "usb")


@dataclass(frozen=True, slots=True)
class Trial:
    """What a child found."""

    library: str
    """Empty where none could be loaded."""
    devices: tuple[Device, ...]
    pycoral: str = ""
    """What Google's pycoral says of libedgetpu; empty where it is not installed or no use."""


class _Record(ctypes.Structure):
    """`struct edgetpu_device` of libedgetpu's C interface."""

    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def tried(libraries: Sequence[str]) -> Trial:
    """The devices that the first of the libraries lists.

    Raises BackendUnavailable where it kills the child or does not come back.
    """
    command = [sys.executable, "-m", "mnv4serve.backends.edgetpu_trial", *libraries]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise unavailable(f"libedgetpu did not answer within {TIMEOUT_S:.0f} s") from error
    if done.returncode < 0:
        raise unavailable(Trouble.INCOMPATIBLE_RUNTIME)
    try:
        found = json.loads(done.stdout)
        devices = tuple(Device(kind, path) for kind, path in found["devices"])
        return Trial(found["library"], devices, pycoral=found["pycoral"])
    except (ValueError, KeyError) as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise unavailable(f"libedgetpu cannot be tried: {' '.join(last)}") from error


def listed(library: ctypes.CDLL) -> list[Device]:
    """The devices by libedgetpu's C interface, which needs no pycoral."""
    library.edgetpu_list_devices.restype = ctypes.POINTER(_Record)
    library.edgetpu_list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
    library.edgetpu_free_devices.argtypes = [ctypes.POINTER(_Record)]
    count = ctypes.c_size_t()
    records = library.edgetpu_list_devices(ctypes.byref(count))
    if not records:
        return []
    found = [
        Device(_KINDS[records[index].type], records[index].path.decode())
        for index in range(count.value)
    ]
    library.edgetpu_free_devices(records)
    return found


def _load(names: Sequence[str]) -> tuple[str, ctypes.CDLL | None]:
    for name in names:
        try:
            return name, ctypes.CDLL(name)
        except OSError:
            continue
    return "", None


def main() -> None:
    name, library = _load(sys.argv[1:])
    devices = listed(library) if library else []
    coral = pycoral_runtime() if library else None
    found = {
        "library": name,
        "devices": [(device.kind, device.path) for device in devices],
        "pycoral": coral[1] if coral else "",
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
