"""The pages of a model file that a runtime has mapped: resident only as long as they are needed."""

from __future__ import annotations

import ctypes
from pathlib import Path

_MADV_DONTNEED = 4


def release_pages(model: Path) -> None:
    """Let go of the resident pages of a mapped model file; whoever reads them again gets them from the page cache.

    The CPU backend keeps its own packed copy of the weights and reads the file while loading only: without this the
    file stays resident beside the copy for ever. Does nothing where the file is not mapped or /proc is missing.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    name = str(model.resolve())
    for line in maps.splitlines():
        # address range, permissions, offset, device, inode, path; only what cannot be written can be read again.
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name and "w" not in fields[1]:
            start, end = (int(address, 16) for address in fields[0].split("-"))
            madvise(start, end - start, _MADV_DONTNEED)
