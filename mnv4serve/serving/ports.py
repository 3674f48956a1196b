"""Whether the ports that Ray will listen on can be had, and which process has one where not."""

import errno
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from mnv4serve.errors import BadConfig

ANYWHERE = "0.0.0.0"  # noqa: S104  # where Ray's HAProxy listens, whatever it is told
LEFT_BEHIND = ("haproxy", "ray::")
"""How the processes are called that outlive a killed Ray, and may be deaf to SIGTERM."""
_LISTENING = "0A"


def check_apart(ports: Mapping[str, int]) -> None:
    """Raises BadConfig where two settings name one port."""
    taken: dict[int, str] = {}
    for setting, port in ports.items():
        other = taken.setdefault(port, setting)
        if port and other != setting:
            raise BadConfig(f"{other} and {setting} are both {port}: give one of them another port")


def check_free(host: str, port: int, setting: str) -> None:
    """Raises BadConfig naming the port, who holds it and the setting that moves it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = _held(port) if error.errno == errno.EADDRINUSE else f"{error.strerror}:"
            raise BadConfig(
                f"Ray cannot have port {port}, {why} set {setting} to another"
            ) from error


def _held(port: int) -> str:
    held_by = holders(port)
    if not held_by:
        return "a process that this user may not see holds it: end that or"
    names = ", ".join(f"{name} (process {pid})" for pid, name in held_by.items())
    pids = " ".join(str(pid) for pid in held_by)
    if any(name.startswith(LEFT_BEHIND) for name in held_by.values()):
        return (
            f"{names} holds it, which a killed Ray leaves behind: end it with `kill -9 {pids}` or"
        )
    return f"{names} holds it: end it with `kill {pids}` or"


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
