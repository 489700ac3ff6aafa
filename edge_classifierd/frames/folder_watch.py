"""A folder that pictures keep coming into (the upload folder of an FTP camera) as a frame source."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import struct
import threading
from math import inf
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.folder import is_picture, natural_order, walk_folders
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.pacing import FixedRate, Pause

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
"""How often the folder is listed where the kernel reports no changes (network shares)."""
_SETTLED_S: Final = 0.5
"""A file is complete when it has not changed for this long, and can be decoded."""
_GIVE_UP_S: Final = 30.0
"""A file that cannot be decoded is skipped when it has not changed for this long."""
_DELETE_AFTER_S: Final = 5.0
"""A picture is deleted this long after it was delivered, when it has been classified."""
_CLOCK_SKEW_S: Final = 2.0
_STEP_S: Final = 0.25
_MOST_LISTING_SHARE: Final = 20

_Stamp = tuple[int, int]
"""Modification time in nanoseconds, and size."""


class FolderWatch:
    """Each new picture of a folder once, when it is complete; never ends.

    Pictures that are older than this object are left alone, unless pictures are deleted after use.
    """

    def __init__(
        self, path: Path, *, fps: float | None = None, recursive: bool = True, delete: bool = False, clock: Clock
    ) -> None:
        """`fps` bounds the rate; None: as fast as pictures are taken."""
        self._path = path
        self._recursive = recursive
        self._delete = delete
        self._clock = clock
        self._rate = FixedRate(fps)
        self._cancelled = threading.Event()
        self._pause = Pause(clock, self._cancelled)
        self._begun_ns = int((clock.utc().timestamp() - _CLOCK_SKEW_S) * 1e9)
        self._known: dict[Path, _Stamp] | None = None
        """The pictures that are done, as they were; None before the first opening."""
        self._waiting: dict[Path, tuple[_Stamp, float]] = {}
        """New pictures, with the time at which they were first seen like this."""
        self._failures: dict[Path, SourceError] = {}
        self._deliverable: list[Path] = []
        self._delivered: list[tuple[Path, _Stamp, float]] = []
        """Pictures to delete, with the time of their delivery."""
        self._notifier: _Notifier | None = None
        self._list_again_s = -inf
        self._skipped = 0
        self._sequence = 0
        self._undeletable = False

    @property
    def live(self) -> bool:
        """False: every picture is wanted."""
        return False

    @property
    def skipped(self) -> int:
        """Damaged pictures so far."""
        return self._skipped

    @property
    def pauses_until_s(self) -> float:
        """Until when `read` waits for the next picture."""
        return self._pause.until_s

    def open(self) -> None:
        """List the folder. Raises SourceError when it is missing or unreadable."""
        found = self._list()
        if self._known is None:
            old = {path: stamp for path, stamp in found.items() if stamp[0] < self._begun_ns}
            self._known = {} if self._delete else old
        self._notifier = _Notifier()
        self._list_again_s = -inf

    def read(self) -> Frame:
        """Wait for the next new picture. Raises SourceError when the folder is gone."""
        if self._known is None:
            raise SourceError(f"{self._path}: not open")
        while not self._cancelled.is_set():
            self._delete_delivered()
            frame = self._next_frame()
            if frame is not None:
                return frame
            self._wait()
            if self._clock.monotonic() >= self._list_again_s:
                self._look()
        raise SourceError(f"{self._path}: reading was cancelled")

    def close(self) -> None:
        """Stop watching."""
        self._delete_delivered(everything=True)
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a blocked `read`."""
        self._cancelled.set()

    def _next_frame(self) -> Frame | None:
        """Return the next complete picture, if there is one."""
        assert self._known is not None
        while self._deliverable:
            path = self._deliverable.pop(0)
            stamp = self._waiting[path][0]
            try:
                picture = read_image(path)
                if _stamp(path) != stamp:  # it was written to meanwhile
                    continue
            except FileNotFoundError:
                self._waiting.pop(path, None)
                continue
            except SourceError as error:
                self._failures[path] = error
                continue
            del self._waiting[path]
            self._failures.pop(path, None)
            self._known[path] = stamp
            self._pause.wait(self._rate.delay_s(self._clock.monotonic()))
            if self._delete:
                self._delivered.append((path, stamp, self._clock.monotonic()))
            frame = Frame(
                picture, self._sequence, self._clock.monotonic(), self._clock.utc(), str(path.relative_to(self._path))
            )
            self._sequence += 1
            return frame
        return None

    def _wait(self) -> None:
        """Wait a little, until the folder changes or it is to be listed again."""
        now_s = self._clock.monotonic()
        self._pause.until_s = now_s + 10 * _POLL_S
        timeout_s = max(0.0, min(_STEP_S, self._list_again_s - now_s))
        if self._notifier is None or self._notifier.broken:
            self._cancelled.wait(timeout_s)
        elif self._notifier.wait(timeout_s):
            self._list_again_s = min(self._list_again_s, now_s + _STEP_S)

    def _look(self) -> None:
        """List the folder and find the pictures that are new and complete."""
        assert self._known is not None
        began_s = self._clock.monotonic()
        found = self._list()
        now_s = self._clock.monotonic()
        if found:  # the empty folder may be a share that is not mounted now
            self._known = {path: stamp for path, stamp in self._known.items() if path in found}
        new = {path: stamp for path, stamp in found.items() if self._known.get(path) != stamp}
        for path in self._waiting.keys() - new.keys():
            del self._waiting[path]
        for path, stamp in new.items():
            if self._waiting.get(path, (None, 0.0))[0] != stamp:
                self._waiting[path] = (stamp, now_s)
                self._failures.pop(path, None)
        for path in self._failures.keys() - new.keys():
            del self._failures[path]
        self._give_up(now_s)
        ready = [
            path
            for path, (_, since_s) in self._waiting.items()
            if path not in self._failures and now_s - since_s >= _SETTLED_S
        ]
        self._deliverable = sorted(ready, key=lambda path: (self._waiting[path][0][0], natural_order(path)))
        pause_s = _SETTLED_S if len(self._waiting) > len(self._failures) else _POLL_S
        self._list_again_s = now_s + max(pause_s, _MOST_LISTING_SHARE * (now_s - began_s))

    def _give_up(self, now_s: float) -> None:
        """Skip the pictures that cannot be decoded and do not change any more."""
        assert self._known is not None
        for path, error in list(self._failures.items()):
            stamp, since_s = self._waiting[path]
            if now_s - since_s >= _GIVE_UP_S:
                self._skipped += 1
                _log.warning("skipped: %s", error)
                self._known[path] = stamp
                del self._waiting[path], self._failures[path]

    def _list(self) -> dict[Path, _Stamp]:
        found = {}
        folders = []
        for folder, names in walk_folders(self._path, recursive=self._recursive):
            folders.append(folder)
            for name in names:
                if is_picture(name):
                    path = folder / name
                    try:
                        found[path] = _stamp(path)
                    except OSError:  # it went since the folder was listed
                        continue
        if self._notifier is not None:
            self._notifier.watch(folders)
        return found

    def _delete_delivered(self, *, everything: bool = False) -> None:
        limit_s = inf if everything else self._clock.monotonic() - _DELETE_AFTER_S
        while self._delivered and self._delivered[0][2] <= limit_s:
            path, stamp, _ = self._delivered.pop(0)
            try:
                if _stamp(path) == stamp:
                    path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                if not self._undeletable:
                    self._undeletable = True
                    _log.warning(
                        "%s: cannot be deleted (%s); give the service user the right to write in its folder",
                        path, error.strerror,
                    )  # fmt: skip


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class _Notifier:
    """Learns from the kernel that a folder changed (inotify(7)); `broken` where it cannot."""

    _CREATED_OR_CHANGED: Final = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200  # modify, close_write, moved_*, create, delete
    _NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._library.inotify_init1(self._NONBLOCK_CLOEXEC)
        self._folders: set[Path] = set()

    @property
    def broken(self) -> bool:
        """Whether the kernel reports nothing, so that only listing remains."""
        return bool(self._descriptor < 0)

    def watch(self, folders: list[Path]) -> None:
        """Watch these folders; those that are gone are forgotten by the kernel."""
        for folder in set(folders) - self._folders:
            if self._descriptor >= 0:
                self._library.inotify_add_watch(self._descriptor, os.fsencode(folder), self._CREATED_OR_CHANGED)
        self._folders = set(folders)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change; return whether there was one."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return False
        while True:
            try:
                if len(os.read(self._descriptor, 65_536)) < struct.calcsize("iIII"):
                    return True
            except BlockingIOError:
                return True

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
