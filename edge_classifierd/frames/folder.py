"""Pictures in a folder as a frame source."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.image import IMAGE_SUFFIXES, read_image
from edge_classifierd.frames.pacing import FixedRate, Pause

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)


def images_in(path: Path, *, recursive: bool = False) -> tuple[Path, ...]:
    """The pictures in a folder by their file names' ending, hidden files left out, in natural order (`2` before `10`).

    Empty when there are none. Raises SourceError when the folder is missing, unreadable or not a folder.
    """
    found: list[Path] = []
    try:
        entries = os.listdir(path)  # noqa: PTH208 - names are a third of the price of Path objects
        if recursive:
            for folder, below, names in os.walk(path):
                below[:] = [name for name in below if not name.startswith(".")]
                found += [Path(folder, name) for name in names if _is_image(name)]
        else:
            found = [path / name for name in entries if _is_image(name)]
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such folder; create it or correct `path`") from error
    except NotADirectoryError as error:
        raise SourceError(f"{path}: not a folder; for a video file use `type: stream`") from error
    except PermissionError as error:
        raise SourceError(f"{path}: permission denied; make it readable for the service user") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be listed ({error.strerror}); check the disk") from error
    return tuple(sorted(found, key=lambda image: _natural(image.relative_to(path))))


class FolderSource:
    """Every picture of a folder once, or again and again; damaged ones are skipped with one warning each.

    `fps` None means as fast as they are asked for. The folder is listed anew for every pass, so that files may come
    and go.
    """

    def __init__(self, path: Path, *, fps: float | None, loop: bool, recursive: bool = False, clock: Clock) -> None:
        self._path = path
        self._loop = loop
        self._recursive = recursive
        self._clock = clock
        self._rate = FixedRate(fps)
        self._cancelled = threading.Event()
        self._pause = Pause(clock, self._cancelled)
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
        """Damaged pictures met so far; one that is met again in the next pass counts again."""
        return self._skipped

    @property
    def pauses_until_s(self) -> float:
        """Until when `read` waits for the next picture's time, or has waited."""
        return self._pause.until_s

    def open(self) -> None:
        """List the folder. Raises SourceError when it is not there or has no pictures."""
        self._begin_pass()

    def read(self) -> Frame | None:
        """The next picture at its time; None after the last one when the folder is not looped."""
        while not self._cancelled.is_set():
            if not self._pending:
                if not self._delivered_in_pass:
                    raise SourceError(f"{self._path}: none of its pictures can be decoded; replace them")
                if not self._loop:
                    return None
                self._begin_pass()
            path = self._pending.popleft()
            try:
                picture = read_image(path)
            except SourceError as error:
                self._skip(path, error)
                continue
            self._warned.discard(path)
            self._pause.wait(self._rate.delay_s(self._clock.monotonic()))
            if self._cancelled.is_set():
                break
            frame = Frame(
                picture, self._sequence, self._clock.monotonic(), self._clock.utc(), str(path.relative_to(self._path))
            )
            self._delivered_in_pass += 1
            self._sequence += 1
            return frame
        raise SourceError(f"{self._path}: reading was cancelled")

    def close(self) -> None:
        """Forget the rest of the pass."""
        self._pending.clear()
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a wait for the next picture's time."""
        self._cancelled.set()

    def _begin_pass(self) -> None:
        images = images_in(self._path, recursive=self._recursive)
        if not images:
            raise SourceError(f"{self._path}: holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}); add some")
        self._warned.intersection_update(images)
        self._pending = deque(images)
        self._delivered_in_pass = 0

    def _skip(self, path: Path, error: SourceError) -> None:
        if not path.exists():  # it went since the folder was listed
            return
        self._skipped += 1
        if path not in self._warned:
            self._warned.add(path)
            _log.warning("skipped: %s", error)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - see above


def _natural(path: Path) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    """Sorts numbers inside names by value; text and numbers alternate, so that like is compared with like."""
    parts = tuple(
        tuple(int(piece) if at % 2 else piece for at, piece in enumerate(re.split(r"(\d+)", part.casefold())))
        for part in path.parts
    )
    return parts, str(path)
