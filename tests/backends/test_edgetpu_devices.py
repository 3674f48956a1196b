"""What the kernel shows of Edge TPUs, and what follows from it when one cannot be opened."""

from pathlib import Path

from mnv4serve.backends.edgetpu_devices import Hardware, attached, diagnose, library_names


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


def test_a_device_that_is_free_and_allowed_is_to_be_replugged(tmp_path: Path) -> None:
    """What is left when neither owner nor permission explains it."""
    node = tmp_path / "node"
    node.touch()

    assert "plug it in again" in diagnose((Hardware("/dev/apex_0", node),))


def test_a_named_library_is_the_only_one_tried() -> None:
    """A wrong name is not papered over by a library that happens to be installed."""
    assert library_names({"EDGETPU_LIBRARY": "/opt/lib.so"}) == ("/opt/lib.so",)
    assert "libedgetpu.so.1" in library_names({})
