"""Tells the kernel the threads' names, for `top -H`, gdb and `ps -L`; Python does that by itself from 3.14 on."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

_LONGEST = 15  # bytes; the kernel refuses nothing longer, but cuts it wherever that falls


class ThreadNames:
    """Names the threads that have come since the last call; used by one thread. Does nothing without /proc."""

    def __init__(self) -> None:
        self._told: frozenset[tuple[int, str]] = frozenset()

    def tell(self) -> None:
        """Name every thread but the main one, whose name is the process's."""
        now = frozenset(
            (thread.native_id, thread.name)
            for thread in threading.enumerate()
            if thread.native_id is not None and thread is not threading.main_thread()
        )
        for native_id, name in now - self._told:
            shortened = name.encode()[:_LONGEST].decode(errors="ignore")
            with suppress(OSError):  # it has ended meanwhile
                Path(f"/proc/self/task/{native_id}/comm").write_text(shortened)
        self._told = now
