"""glibc's allocator, set for a process that runs for a year in little memory."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 20


def tune() -> None:
    """One arena for all threads, and freed memory goes back to the system; does nothing with another C library.

    By default each thread gets an arena of its own and the threshold above which a block is returned grows with use,
    so that a few threads and pictures of changing size leave megabytes behind. Must come before threads are started.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
