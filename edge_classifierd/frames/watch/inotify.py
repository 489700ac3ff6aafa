"""What the kernel reports about the files in folders (inotify(7)): which are being written, and which are complete."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW: Final = 0x4000
_WATCHED: Final = _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT: Final = struct.Struct("iIII")
_BUFFER_BYTES: Final = 65_536


class Inotify:
    """Learns from the kernel that a folder changed; `broken` where it cannot.

    A file in neither set is one of which the kernel has reported nothing: on a network share, or in a new folder.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = -1
        self._folders: dict[int, Path] = {}
        self.writing: set[Path] = set()
        """Files that were changed and not closed since; not those that were only created, as a link is."""
        self.complete: set[Path] = set()
        """Files that were closed after writing, or moved to their place."""

    def open(self) -> None:
        """Start again, with no folder watched yet."""
        self.close()
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def broken(self) -> bool:
        """Whether the kernel reports nothing, so that only listing remains."""
        return bool(self._descriptor < 0)

    def watch(self, folders: list[Path]) -> None:
        """Watch these folders and no others."""
        if self._descriptor < 0:
            return
        # A folder that is watched already keeps its number, also after it was renamed.
        numbers = [
            self._library.inotify_add_watch(self._descriptor, os.fsencode(folder), _WATCHED) for folder in folders
        ]
        watched = {number: folder for number, folder in zip(numbers, folders, strict=True) if number >= 0}
        for number in self._folders.keys() - watched.keys():
            self._library.inotify_rm_watch(self._descriptor, number)
        self._folders = watched

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change; return whether there was one."""
        return bool(select.select([self._descriptor], [], [], timeout_s)[0]) and self.update()

    def update(self) -> bool:
        """Take in what was reported up to now; return whether there was anything."""
        changed = False
        while not self.broken:
            try:
                events = os.read(self._descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                break
            changed = True
            at = 0
            while at < len(events):
                number, mask, _, length = _EVENT.unpack_from(events, at)
                at += _EVENT.size + length
                self._take(number, mask, events[at - length : at].rstrip(b"\0"))
        return changed

    def is_written(self, path: Path) -> bool:
        """Return whether it was reported up to now that a file is being or was written."""
        self.update()
        return path in self.writing or path in self.complete

    def keep_only(self, paths: Collection[Path]) -> None:
        """Forget all other files."""
        self.writing.intersection_update(paths)
        self.complete.intersection_update(paths)

    def close(self) -> None:
        """Stop watching; safe to call twice."""
        self._folders = {}
        self.writing.clear()
        self.complete.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self, number: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:  # reports were lost
            self.writing.clear()
            self.complete.clear()
        elif number in self._folders and mask & (_MODIFY | _CLOSE_WRITE | _MOVED_TO):
            path = self._folders[number] / os.fsdecode(name)
            joined, left = (self.writing, self.complete) if mask & _MODIFY else (self.complete, self.writing)
            joined.add(path)
            left.discard(path)
