"""Whether the ports that Ray will listen on can be had, and which process has one where not."""

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mnv4serve.errors import AddressTaken, BadConfig

ANYWHERE = "0.0.0.0"  # noqa: S104  # where Ray and its HAProxy listen, whatever they are told
OF_RAY = ("haproxy", "ray::")
"""How the processes are called that outlive a killed Ray, some of them deaf to SIGTERM."""
_LISTENING = "0A"


def check_apart(ports: Mapping[str, int]) -> None:
    """Raises BadConfig where two settings name one port."""
    taken: dict[int, str] = {}
    for setting, port in ports.items():
        other = taken.setdefault(port, setting)
        if port and other != setting:
            raise BadConfig(f"{other} and {setting} are both {port}: give one of them another port")


def check_free(ports: Mapping[str, int]) -> None:
    """Raises AddressTaken naming the ports, who holds them and the settings that move them."""
    refused = {setting: error for setting, port in ports.items() if (error := _refusal(port))}
    if refused:
        taken = {setting: ports[setting] for setting in refused}
        first = next(iter(refused.values()))
        raise AddressTaken(
            f"Ray cannot have port {_listed(taken.values())}, {_why(first, taken.values())} "
            f"set {_listed(taken)} to another"
        ) from first


def _refusal(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ANYWHERE, port))
        except OSError as error:
            return error
    return None


def _why(error: OSError, ports: Iterable[int]) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"{error.strerror}:"
    held_by = {pid: name for port in ports for pid, name in holders(port).items()}
    if not held_by:
        return "taken by a process that this user may not see: end that or"
    names = _listed(f"{name} (process {pid})" for pid, name in held_by.items())
    pids = " ".join(str(pid) for pid in held_by)
    if all(name.startswith(OF_RAY) for name in held_by.values()):
        return f"taken by {names} of a Ray that runs here or was killed: `kill -9 {pids}` or"
    return f"taken by {names}: `kill {pids}` or"


def _listed(parts: Iterable[object]) -> str:
    return " and ".join(str(part) for part in parts)


def holders(port: int) -> dict[int, str]:
    """The processes that listen on a port and their names, of those that this user may look at."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return {}
    found = (
        (int(folder.name), _name(folder))
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and sockets & set(_open_files(folder))
    )
    return dict(sorted(found))


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        lines = table.read_text(encoding="utf-8").splitlines()[1:] if table.exists() else []
        for _, address, _, state, *rest in map(str.split, lines):
            if state == _LISTENING and int(address.rpartition(":")[2], 16) == port:
                yield rest[5]


def _open_files(process: Path) -> Iterator[str]:
    """Nothing where the process has ended meanwhile or is somebody else's."""
    try:
        for entry in (process / "fd").iterdir():
            yield str(entry.readlink())
    except OSError:
        return


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "a process that has ended since"
