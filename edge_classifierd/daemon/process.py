"""Sets up the daemon's process: allocator, the lock of the state directory, outbox, thread names, memory release."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import select
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.memory_maps import read_only_mappings, release_unchanged
from edge_classifierd.state_file import lock_alone

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.config.sections.configuration import OutboxSection
    from edge_classifierd.memory_maps import MemoryMapping
    from edge_classifierd.mqtt.topics import Topics

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Larger than a frame's buffers, so that they are used again for the next frame. A new mapping of 150 kB for each frame
# costs a page fault for every page: 0.4 ms a frame on a virtual machine.
_LARGE_BYTES: Final = 4 << 20
_LONGEST_NAME: Final = 15  # bytes; the kernel cuts longer names, also in the middle of a character
_SETTLED_AFTER_S: Final = 1.0


def tune_allocator() -> None:
    """Make glibc use one arena for all threads and return freed memory to the system. Call before starting threads.

    By default each thread gets its own arena, and the size from which blocks are returned grows with use, so that a few
    threads and pictures of changing size keep megabytes. Does nothing with another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


def lock_state(directory: Path) -> int | None:
    """Lock the state directory for this process and create it if necessary.

    Returns:
        The descriptor that holds the lock; closing it releases the lock. None where no file can be created: the daemon
        also works with a broken disk, or one without locks.

    Raises:
        EdgeClassifierError: Another process has the lock.
    """
    file = directory / "lock"
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return None
    try:
        lock_alone(descriptor)
    except BlockingIOError as error:
        raise EdgeClassifierError(
            f"{file}: another process uses this state directory; stop it, or give each its own with"
            " EDGE_CLASSIFIERD_STATE (a systemd service: with StateDirectory=)"
        ) from error
    return descriptor


def open_outbox(section: OutboxSection, topics: Topics, clock: Clock) -> Outbox:
    """Open the outbox as configured. Raises OutboxError."""
    return Outbox(
        section.path,
        topic=lambda event: topics.event(event.pipeline),
        clock=clock,
        max_events=section.max_events,
        max_age_s=section.max_age,
        keep_sent=section.keep_sent,
    )


class ThreadNames:
    """Passes the names of Python's threads to the kernel, for `top -H`, gdb and `ps -L`. Used by one thread.

    Python does this itself from version 3.14.
    """

    def __init__(self) -> None:
        self._named: frozenset[tuple[int, str]] = frozenset()

    def update(self) -> None:
        """Name the threads that started since the last call, except the main thread. Does nothing without /proc."""
        now = frozenset(
            (thread.native_id, thread.name)
            for thread in threading.enumerate()
            if thread.native_id is not None and thread is not threading.main_thread()
        )
        for native_id, name in now - self._named:
            shortened = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
            with contextlib.suppress(OSError):  # the thread has ended
                Path(f"/proc/self/task/{native_id}/comm").write_text(shortened)
        self._named = now


class PageRelease:
    """Releases library pages that only the start or a reload needed. Used by the service's thread.

    Reads the list of mappings twice, a second apart, then releases. With bench/startup.py 80 of 115 MB stay resident.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: frozenset[MemoryMapping] | None = None
        self._due_s = float("-inf")
        self._done = False

    def schedule(self) -> None:
        """Release again, because a reload has loaded new pages."""
        self._known = None
        self._done = False

    def tick(self) -> None:
        """Do what is due. Call it often."""
        if self._done:
            return
        if self._known is None:
            self._known = read_only_mappings()
            self._due_s = self._clock.monotonic() + _SETTLED_AFTER_S
        elif self._clock.monotonic() >= self._due_s:
            release_unchanged(self._known)
            self._known = None
            self._done = True


class WakeUp:
    """Ends the wait of the main thread: when a signal arrives, and when another thread calls `wake`."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.settimeout(0)
        self._write.settimeout(0)

    @property
    def signals(self) -> int:
        """The descriptor for `signal.set_wakeup_fd`."""
        return self._write.fileno()

    def wake(self) -> None:
        """End the present or next wait; any thread."""
        with contextlib.suppress(BlockingIOError):
            self._write.send(b"\0")

    def wait(self, timeout_s: float) -> None:
        """Wait for a signal or `wake`, at most `timeout_s` seconds."""
        select.select([self._read], [], [], timeout_s)

    def read(self) -> bytes:
        """Return the numbers of the signals that have arrived, and a zero for each `wake`."""
        try:
            return self._read.recv(4096)
        except BlockingIOError:
            return b""


def file_sha256(file: Path) -> str | None:
    """Return the SHA-256 of a file; None if it cannot be read any more."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
