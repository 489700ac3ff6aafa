"""What is known of the pictures of a watched folder: those that wait to be complete, and those that are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_classifierd.frames.image import UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.errors import SourceError

_MOST_ABSENT: Final = 10_000


class Stamp(NamedTuple):
    """What tells whether a file was changed or moved."""

    modified_ns: int
    size: int
    device: int
    inode: int

    def same_content(self, other: Stamp) -> bool:
        """Return whether the file at one path was not changed; a share that is mounted again has new inodes."""
        return self[:2] == other[:2]


@dataclass(slots=True)
class WaitingPicture:
    """A new picture."""

    stamp: Stamp
    since_s: float
    """When it was first seen with this stamp."""
    first_s: float
    """When it was first seen."""
    error: SourceError | None = None
    """Why it could not be read with this stamp."""
    warned: bool = False

    def see(self, stamp: Stamp, now_s: float) -> None:
        """Record the stamp of now."""
        if not stamp.same_content(self.stamp):
            self.since_s, self.error = now_s, None
        self.stamp = stamp

    @property
    def damaged(self) -> bool:
        """Whether its content could be read, but not decoded."""
        return self.error is not None and not isinstance(self.error, UnreadableFileError)


@dataclass(slots=True)
class DonePictures:
    """The pictures that are done, as they were when the folder was last listed."""

    present: dict[Path, Stamp]
    absent: dict[Path, Stamp] = field(default_factory=dict)
    """They may come back: their folder is away, or they are on their way to another one."""
    reported: set[Path] = field(default_factory=set)
    """Those of which the kernel reports when they are written to."""
    most_absent: int = _MOST_ABSENT

    def update(
        self, found: dict[Path, Stamp], folders: set[Path], is_written: Callable[[Path], bool]
    ) -> dict[Path, Stamp]:
        """Take in a listing, with the folders whose pictures are all in it; return the pictures that are not done.

        `is_written` tells whether the kernel has reported that a file was written to.
        """

        def is_done(path: Path, stamp: Stamp) -> bool:
            old = self.present.get(path) or self.absent.get(path)
            if old is None or stamp.same_content(old):
                return old is not None
            # An FTP client may set the time of a file after it was sent (MFMT).
            return path in self.reported and stamp[1:] == old[1:] and not is_written(path)

        new = {path: stamp for path, stamp in found.items() if not is_done(path, stamp)}
        if new:
            done = {*self.present.values(), *self.absent.values()}  # maybe under another name
            new = {path: stamp for path, stamp in new.items() if stamp not in done}
        kept = [path for path in self.absent if path not in found and path.parent not in folders]
        self.absent = {path: self.absent[path] for path in kept}
        self.absent |= {path: stamp for path, stamp in self.present.items() if path not in found}
        self.most_absent = max(self.most_absent, len(found))
        for path in list(self.absent)[: -self.most_absent]:
            del self.absent[path]
        self.present = {path: stamp for path, stamp in found.items() if path not in new}
        self.reported &= self.present.keys()
        return new


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file. Raises OSError."""
    found = path.stat()
    return Stamp(found.st_mtime_ns, found.st_size, found.st_dev, found.st_ino)
