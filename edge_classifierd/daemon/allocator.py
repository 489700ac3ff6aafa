"""glibc's allocator, set for a process that runs for a year in little memory."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Above a frame's buffers, so that they are reused from one frame to the next: mapping 150 kB anew for each costs a
# fault for every page, 0.4 ms a frame on a virtual machine.
_LARGE_BYTES = 4 << 20


def tune() -> None:
    """One arena for all threads, and freed memory goes back to the system; does nothing with another C library.

    By default each thread gets an arena of its own and the size from which blocks are returned grows with use, so that
    a few threads and pictures of changing size leave megabytes behind. Must come before threads are started.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
