"""Long turns on the processor for slots, so that threads which need it for a moment come first.

Where there are as many slots as processors, the event loop finds all of them computing. Linux lets
a thread that wakes up interrupt one whose time slice is longer than its own (6.12 and newer), at
equal shares of the time: no thread is nicer than before, and neighbours get no more than theirs.
"""

import ctypes
import os
import platform
import sys
import threading

SLICE_NS = 100_000_000
"""The longest that the kernel accepts."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call, which the C library of older systems has no function for."""
_KEEP_POLICY = 0x08


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def lengthen_timeslice() -> bool:
    """Of the calling thread; whether the system took it, which changes nothing where it did not."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    wanted = _Attributes(
        size=ctypes.sizeof(_Attributes), flags=_KEEP_POLICY, nice=nice, runtime_ns=SLICE_NS
    )
    return bool(libc.syscall(number, 0, ctypes.byref(wanted), 0) == 0)
