"""A folder that pictures keep coming into (the upload folder of an FTP camera) as a frame source."""

from __future__ import annotations

import logging
import threading
from math import inf
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.folder import is_picture, natural_order, walk_folders
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.pacing import FixedRate, Pause
from edge_classifierd.frames.watch.inotify import Inotify
from edge_classifierd.frames.watch.known_pictures import DonePictures, Stamp, WaitingPicture, stamp_of

if TYPE_CHECKING:
    from pathlib import Path

    from av import VideoFrame

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_POLL_S: Final = 1.0
"""How often the folder is listed where the kernel reports no changes (network shares)."""
_SETTLED_S: Final = 0.5
"""Where the kernel reports nothing, a file is complete when it has not changed for this long, and can be decoded."""
_OVERWRITTEN_S: Final = 2.0
"""A file that has been changing for this long is tried although it was changed just now."""
_GIVE_UP_S: Final = 30.0
"""A file that has not changed for this long is no longer being written: skipped when it cannot be decoded."""
_DELETE_AFTER_S: Final = 5.0
"""A picture is deleted this long after it was delivered, when it has been classified."""
_CLOCK_SKEW_S: Final = 2.0
_STEP_S: Final = 0.25
_MOST_LISTING_SHARE: Final = 20


class FolderWatch:
    """Each new picture of a folder once, when it is complete; never ends.

    Pictures that are there at the start are left alone, unless pictures are deleted after use. Where the folder or a
    share in it comes later, these are the pictures that are older than this object.
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
        self._late = False
        """Whether the folder was missing at the start."""
        self._devices: set[int] = set()
        """The file systems whose pictures were seen; a share that is mounted later is a new one."""
        self._done: DonePictures | None = None
        """None before the first opening."""
        self._waiting: dict[Path, WaitingPicture] = {}
        self._deliverable: list[Path] = []
        self._delivered: list[tuple[Path, Stamp, float]] = []
        """Pictures to delete, with the time of their delivery."""
        self._inotify = Inotify()
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
        self._inotify.open()
        try:
            found, _ = self._list()
            device = self._path.stat().st_dev
        except (SourceError, OSError) as error:
            self._late = self._done is None
            if isinstance(error, SourceError):
                raise
            raise SourceError(
                f"{self._path}: cannot be read ({error.strerror}); check the disk or the share"
            ) from error
        if self._done is None:
            old = {path: stamp for path, stamp in found.items() if not self._late or stamp.modified_ns < self._begun_ns}
            self._done = DonePictures({} if self._delete else old)
            self._devices = {device, *(stamp.device for stamp in found.values())}
        self._waiting.clear()
        self._deliverable.clear()
        self._list_again_s = -inf

    def read(self) -> Frame:
        """Wait for the next new picture. Raises SourceError when the folder is gone."""
        if self._done is None:
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
        self._inotify.close()
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a blocked `read`."""
        self._cancelled.set()

    def _next_frame(self) -> Frame | None:
        """Return the next complete picture, if there is one."""
        while self._deliverable:
            path = self._deliverable.pop(0)
            picture = self._read_complete(path)
            if picture is None:
                continue
            stamp = self._finish(path)
            self._pause.wait(self._rate.delay_s(self._clock.monotonic()))
            if self._delete:
                self._delivered.append((path, stamp, self._clock.monotonic()))
            frame = Frame(
                picture, self._sequence, self._clock.monotonic(), self._clock.utc(), str(path.relative_to(self._path))
            )
            self._sequence += 1
            return frame
        return None

    def _read_complete(self, path: Path) -> VideoFrame | None:
        """Return the picture when it is complete, and was not changed while it was read."""
        waiting, now_s = self._waiting[path], self._clock.monotonic()
        try:
            stamp = stamp_of(path)
            waiting.see(stamp, now_s)
            if not self._may_be_complete(path, now_s):
                return None
            last_try = now_s - waiting.since_s >= _GIVE_UP_S
            picture = read_image(path, to_end=not last_try and path not in self._inotify.complete)
            self._inotify.update()
            changed = not stamp_of(path).same_content(stamp) or (path in self._inotify.writing and not last_try)
        except SourceError as error:
            waiting.error = error
            if last_try:
                self._warn(path)
            return None
        except OSError:  # the next listing shows whether it is gone
            return None
        return None if changed else picture

    def _may_be_complete(self, path: Path, now_s: float) -> bool:
        waiting = self._waiting[path]
        unchanged_s = now_s - waiting.since_s
        if unchanged_s >= _GIVE_UP_S:
            return True
        if waiting.damaged or path in self._inotify.writing:
            return False
        if path in self._inotify.complete or unchanged_s >= _SETTLED_S:
            return True
        return now_s - waiting.first_s >= _OVERWRITTEN_S

    def _warn(self, path: Path) -> None:
        """Skip a picture whose content cannot be decoded; one that cannot be read is tried again."""
        waiting = self._waiting[path]
        if waiting.damaged:
            self._skipped += 1
            _log.warning("skipped: %s", waiting.error)
            self._finish(path)
        elif not waiting.warned:
            waiting.warned = True
            _log.warning("waiting for a picture: %s", waiting.error)

    def _finish(self, path: Path) -> Stamp:
        assert self._done is not None
        if path in self._inotify.complete:
            self._inotify.complete.remove(path)
            self._done.reported.add(path)
        stamp = self._done.present[path] = self._waiting.pop(path).stamp
        return stamp

    def _wait(self) -> None:
        """Wait a little, until the folder changes or it is to be listed again."""
        now_s = self._clock.monotonic()
        self._pause.until_s = now_s + 10 * _POLL_S
        timeout_s = max(0.0, min(_STEP_S, self._list_again_s - now_s))
        if self._inotify.broken:
            self._cancelled.wait(timeout_s)
        elif self._inotify.wait(timeout_s):
            self._list_again_s = min(self._list_again_s, now_s + _STEP_S)

    def _look(self) -> None:
        """List the folder and find the pictures that are new and complete."""
        assert self._done is not None
        began_s = self._clock.monotonic()
        self._inotify.update()
        found, folders = self._list()
        now_s = self._clock.monotonic()
        self._leave_old_alone(found)
        new = self._done.update(found, folders, self._inotify.is_written)
        self._inotify.keep_only(new.keys())
        for path in self._waiting.keys() - new.keys():
            del self._waiting[path]
        for path, stamp in new.items():
            self._waiting.setdefault(path, WaitingPicture(stamp, now_s, now_s)).see(stamp, now_s)
        self._deliverable = sorted(
            (path for path in self._waiting if self._may_be_complete(path, now_s)), key=self._order
        )  # fmt: skip
        hurry = any(waiting.error is None for waiting in self._waiting.values())
        self._list_again_s = now_s + max(_SETTLED_S if hurry else _POLL_S, _MOST_LISTING_SHARE * (now_s - began_s))

    def _leave_old_alone(self, found: dict[Path, Stamp]) -> None:
        """Take the pictures of a share that was mounted just now as done where they are older than this object."""
        assert self._done is not None
        mounted = {stamp.device for stamp in found.values()} - self._devices
        self._devices |= mounted
        if mounted and not self._delete:
            for path, stamp in found.items():
                if stamp.device in mounted and stamp.modified_ns < self._begun_ns:
                    self._done.present.setdefault(path, stamp)

    def _order(self, path: Path) -> tuple[object, ...]:
        waiting = self._waiting[path]
        return waiting.error is not None, waiting.stamp.modified_ns, natural_order(path)

    def _list(self) -> tuple[dict[Path, Stamp], set[Path]]:
        """Return the pictures, and the folders that hold some; an empty one may be a share that is not mounted now."""
        found, folders, holding, incomplete = {}, [], set(), set()
        for folder, names in walk_folders(self._path, recursive=self._recursive):
            folders.append(folder)
            for name in names:
                if is_picture(name):
                    path = folder / name
                    try:
                        found[path] = stamp_of(path)
                        holding.add(folder)
                    except FileNotFoundError:  # it went since the folder was listed
                        continue
                    except OSError:
                        incomplete.add(folder)
        self._inotify.watch(folders)
        return found, holding - incomplete

    def _delete_delivered(self, *, everything: bool = False) -> None:
        limit_s = inf if everything else self._clock.monotonic() - _DELETE_AFTER_S
        while self._delivered and self._delivered[0][2] <= limit_s:
            path, stamp, _ = self._delivered.pop(0)
            try:
                if stamp_of(path).same_content(stamp):
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
