import ctypes
import platform
import sys
from threading import Thread

import pytest

from mnv4serve.serving.timeslice import SLICE_NS, lengthen_timeslice

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
SIZE_BYTES = 56
RUNTIME_AT = 24


def _slice_ns() -> int:
    """Of the calling thread, as the kernel has it."""
    attributes = ctypes.create_string_buffer(SIZE_BYTES)
    call = ctypes.CDLL(None, use_errno=True).syscall
    assert call(SCHED_GETATTR[platform.machine()], 0, attributes, SIZE_BYTES, 0) == 0
    return int.from_bytes(attributes.raw[RUNTIME_AT : RUNTIME_AT + 8], sys.byteorder)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SCHED_GETATTR,
    reason="time slices are set on Linux, x86-64 and ARM64",
)
def test_a_thread_gets_a_long_slice_and_keeps_it_to_itself() -> None:
    """The kernel has noted it for the thread that asked and for no other."""
    before_ns = _slice_ns()
    if before_ns == 0:
        pytest.skip("this kernel has no time slices of a thread's own (Linux 6.12 has)")
    seen: list[tuple[bool, int]] = []
    thread = Thread(target=lambda: seen.append((lengthen_timeslice(), _slice_ns())))
    thread.start()
    thread.join()

    assert seen == [(True, SLICE_NS)]
    assert _slice_ns() == before_ns


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such call, the thread goes on as it is."""
    monkeypatch.setattr(platform, "machine", lambda: "unheard of")

    assert not lengthen_timeslice()
