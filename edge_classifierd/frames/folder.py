"""Pictures in a folder as a frame source: all of them once, or again and again."""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.image import IMAGE_SUFFIXES, read_image
from edge_classifierd.frames.pacing import FixedRate, Pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_FRESH_S: Final = 10.0
"""A damaged picture that was changed less than this long ago may still be written: it is tried again."""
_RETRY_S: Final = 1.0
_SHARE_IS_GONE: Final = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH})


def images_in(path: Path, *, recursive: bool = False) -> tuple[Path, ...]:
    """Return the pictures in a folder, by their file names' endings, in natural order (`2` before `10`).

    Hidden files are left out. Empty when there are none.

    Raises:
        SourceError: The folder is missing, unreadable or not a folder.
    """
    found = [
        folder / name for folder, names in walk_folders(path, recursive=recursive) for name in names if is_picture(name)
    ]
    return tuple(sorted(found, key=lambda image: natural_order(image.relative_to(path))))


def walk_folders(path: Path, *, recursive: bool) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder with the names in it, then those below; hidden folders are left out. Raises SourceError."""
    try:
        names = os.listdir(path)  # noqa: PTH208 - names are a third of the price of Path objects
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such folder; create it or correct `path`") from error
    except NotADirectoryError as error:
        raise SourceError(f"{path}: not a folder; for a video file use `type: stream`") from error
    except PermissionError as error:
        raise SourceError(f"{path}: permission denied; make it readable for the service user") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be listed ({error.strerror}); check the disk") from error
    if not recursive:
        yield path, names
        return
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        yield Path(folder), files


def is_picture(name: str) -> bool:
    """Return whether a file of this name is a picture, by its ending; hidden files are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - see above


def natural_order(path: Path) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    """Return a key that sorts numbers inside names by value."""
    # Text and numbers alternate, so that like is compared with like.
    parts = tuple(
        tuple(int(piece) if at % 2 else piece for at, piece in enumerate(re.split(r"(\d+)", part.casefold())))
        for part in path.parts
    )
    return parts, str(path)


class FolderSource:
    """Every picture of a folder once, or again and again; damaged ones are skipped with one warning each.

    The folder is listed for every pass, so files may come and go. A pass that an error interrupts is continued.
    """

    def __init__(self, path: Path, *, fps: float | None, loop: bool, recursive: bool = False, clock: Clock) -> None:
        """`fps` None: as fast as pictures are taken."""
        self._path = path
        self._loop = loop
        self._recursive = recursive
        self._clock = clock
        self._rate = FixedRate(fps)
        self._cancelled = threading.Event()
        self._pause = Pause(clock, self._cancelled)
        self._decoding_s = 0.0  # how long the previous picture took to decode
        self._pending: deque[Path] = deque()
        self._delivered_in_pass = 0
        self._warned: set[Path] = set()
        self._skipped = 0
        self._sequence = 0

    @property
    def live(self) -> bool:
        """False: every picture is wanted."""
        return False

    @property
    def skipped(self) -> int:
        """Damaged pictures so far; one that is read again in the next pass counts again."""
        return self._skipped

    @property
    def pauses_until_s(self) -> float:
        """Until when `read` waits for the next picture's time, or has waited."""
        return self._pause.until_s

    def open(self) -> None:
        """List the folder. Raises SourceError when it is missing, unreadable or without pictures."""
        images = self._list()
        if not self._pending:
            self._begin_pass(images)

    def read(self) -> Frame | None:
        """Return the next picture at its time; None after the last one of a folder that is not looped.

        Raises:
            SourceError: The folder is gone, or none of its pictures can be decoded.
        """
        waited = False
        while not self._cancelled.is_set():
            if not self._pending:
                if not self._delivered_in_pass:
                    raise SourceError(f"{self._path}: none of its pictures can be decoded; replace them")
                if not self._loop:
                    return None
                self._begin_pass(self._list())
            if not waited:
                # Begin so that decoding ends when the picture is due. Decoding earlier would slow down the inference of
                # the previous picture.
                self._pause.wait(self._rate.delay_s(self._clock.monotonic() + self._decoding_s))
                waited = True
                continue
            path, began_s = self._pending.popleft(), self._clock.monotonic()
            try:
                picture = read_image(path)
            except SourceError as error:
                self._handle_failure(path, error)
                continue
            now_s = self._clock.monotonic()
            self._decoding_s = now_s - began_s
            self._warned.discard(path)
            frame = Frame(picture, self._sequence, now_s, self._clock.utc(), str(path.relative_to(self._path)))
            self._delivered_in_pass += 1
            self._sequence += 1
            return frame
        raise SourceError(f"{self._path}: reading was cancelled")

    def close(self) -> None:
        """Release nothing; the rest of the pass is kept for the next opening."""
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a wait for the next picture's time."""
        self._cancelled.set()

    def _list(self) -> tuple[Path, ...]:
        images = images_in(self._path, recursive=self._recursive)
        if not images:
            raise SourceError(f"{self._path}: holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}); add some")
        return images

    def _begin_pass(self, images: tuple[Path, ...]) -> None:
        self._warned.intersection_update(images)
        self._pending = deque(images)
        self._delivered_in_pass = 0

    def _handle_failure(self, path: Path, error: SourceError) -> None:
        """Skip a picture, or keep it for later: the share is gone, or the file may still be written."""
        cause = error.__cause__
        if not path.exists() or (isinstance(cause, OSError) and cause.errno in _SHARE_IS_GONE):
            self._pending.appendleft(path)
            self._list()  # raises when the folder is gone as a whole
            self._pending.popleft()
            return
        if not self._loop and self._may_be_unfinished(path):
            self._pause.wait(_RETRY_S / (len(self._pending) + 1))
            self._pending.append(path)
            return
        self._skipped += 1
        if path not in self._warned:
            self._warned.add(path)
            _log.warning("skipped: %s", error)

    def _may_be_unfinished(self, path: Path) -> bool:
        try:
            return abs(self._clock.utc().timestamp() - path.stat().st_mtime) < _FRESH_S
        except OSError:
            return False
