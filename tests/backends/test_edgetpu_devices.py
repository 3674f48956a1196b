"""What the kernel shows of Edge TPUs, and what follows from it when one cannot be opened."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnv4serve.backends.edgetpu_devices import (
    Claim,
    Hardware,
    attached,
    diagnose,
    holder,
    library_names,
)
from mnv4serve.errors import BackendUnavailable


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n", encoding="ascii")


def test_cards_and_sticks_are_seen(tmp_path: Path) -> None:
    """Cards with their owner, sticks before and after their firmware, nothing else."""
    write(tmp_path / "class/apex/apex_0", is_device_owned="1", device_owner="4711")
    write(tmp_path / "class/apex/apex_1", is_device_owned="0", device_owner="0")
    usb = tmp_path / "bus/usb/devices"
    write(usb / "2-1", idVendor="18d1", idProduct="9302", busnum="2", devnum="7")
    write(usb / "2-2", idVendor="1a6e", idProduct="089a", busnum="2", devnum="8")
    write(usb / "2-3", idVendor="046d", idProduct="c52b", busnum="2", devnum="9")

    found = attached(tmp_path)

    assert [(one.path, one.owner) for one in found[:2]] == [
        ("/dev/apex_0", 4711),
        ("/dev/apex_1", None),
    ]
    assert [str(one.node) for one in found[2:]] == ["/dev/bus/usb/002/007", "/dev/bus/usb/002/008"]


def test_nothing_is_seen_where_nothing_is(tmp_path: Path) -> None:
    """A machine without sysfs, or with an empty one."""
    assert attached(tmp_path) == ()
    assert "no Edge TPU" in diagnose(())


def test_the_owner_is_named() -> None:
    """The kernel tells who holds a card."""
    card = Hardware("/dev/apex_0", Path("/dev/apex_0"), owner=4711)

    assert "process 4711 holds /dev/apex_0" in diagnose((card,))


def test_a_process_that_has_a_stick_open_is_found(tmp_path: Path) -> None:
    """The kernel names no owner of a stick, but its node is among somebody's open files."""
    node = tmp_path / "007"
    node.touch()
    code = "import sys; kept = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, node], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"

        assert holder(node) == other.pid
        assert f"process {other.pid} holds 2-1" in diagnose((Hardware("2-1", node),))
        other.communicate()

    assert holder(node) is None


def test_processes_that_show_nothing_are_passed_over(tmp_path: Path) -> None:
    """Those that ended meanwhile, and those of other users."""
    (tmp_path / "4711").mkdir()
    (tmp_path / "self").mkdir()

    assert holder(Path("/dev/bus/usb/002/007"), tmp_path) is None


def test_the_device_that_was_meant_is_judged() -> None:
    """Not the first of several, and not one that took its place."""
    free = Hardware("/dev/apex_0", None)
    held = Hardware("/dev/apex_1", None, owner=4711)

    assert "process 4711 holds /dev/apex_1" in diagnose((free, held), "/dev/apex_1")
    assert "cannot open /dev/apex_0" in diagnose((free, held), "/dev/apex_0")
    assert "/dev/apex_2 is not attached any more" in diagnose((free, held), "/dev/apex_2")


def test_a_lock_that_may_not_be_opened_is_a_sentence(tmp_path: Path) -> None:
    """Another user's, say; a folder of its name behaves alike for everybody."""
    (tmp_path / "mnv4serve-edgetpu-dev-apex-0.lock").mkdir()

    with pytest.raises(BackendUnavailable, match=r"cannot be opened .* end that service"):
        Claim("/dev/apex_0", tmp_path)


def test_a_device_that_is_free_and_allowed_is_to_be_replugged(tmp_path: Path) -> None:
    """What is left when neither owner nor permission explains it."""
    node = tmp_path / "node"
    node.touch()

    assert "plug it in again" in diagnose((Hardware("/dev/apex_0", node),))


def test_a_named_library_is_the_only_one_tried() -> None:
    """A wrong name is not papered over by a library that happens to be installed."""
    assert library_names({"EDGETPU_LIBRARY": "/opt/lib.so"}) == ("/opt/lib.so",)
    assert "libedgetpu.so.1" in library_names({})
