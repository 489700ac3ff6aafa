"""A folder of pictures that never grows beyond its bounds: the oldest are removed for the newest."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from typing import TYPE_CHECKING, Final

from edge_classifierd.state_file import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

_FREE_SHARE: Final = 0.05
_FREE_BYTES: Final = 100_000_000
# Independent of the umask: the service's is 0077, and its group may read the pictures (docs/operations.md).
_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750


class ImageStore:
    """One such folder; used by one thread. Files with another ending are not touched nor counted.

    The owner may write the pictures and the group may read them (files 0640, folders 0750), whatever the umask is.

    A disk that is nearly full (under 100 MB and under 5 % free), read-only or gone costs pictures and one warning.
    Nothing is read or written before the first `add`.
    """

    def __init__(self, folder: Path, *, max_files: int, max_bytes: int, ending: str = ".jpg") -> None:
        self._folder = folder
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._ending = ending
        self._files: deque[tuple[Path, int]] | None = None
        self._bytes = 0
        self._failing = False

    def add(self, name: str, content: bytes) -> Path | None:
        """Store a file under `name` (relative, without ending); return None when that failed or it never fits."""
        if len(content) > self._max_bytes or self._max_files < 1:
            return None
        try:
            files = self._index()
            while len(files) >= self._max_files or self._bytes + len(content) > self._max_bytes:
                self._remove_oldest(files)
            self._check_free()
            file = self._folder / f"{name}{self._ending}"
            _make_folders(file.parent)
            replace_file(file, content, durably=False, mode=_FILE_MODE)
        except OSError as error:
            if not self._failing:
                _log.warning("%s: cannot store pictures: %s", self._folder, error)
            self._failing = True
            return None
        files.append((file, len(content)))
        self._bytes += len(content)
        if self._failing:
            _log.info("%s: pictures are stored again", self._folder)
        self._failing = False
        return file

    @property
    def count(self) -> int:
        """Number of stored files; 0 before the folder was read. Any thread."""
        return len(self._files or ())

    @property
    def size(self) -> int:
        """Bytes of the stored files; 0 before the folder was read. Any thread."""
        return self._bytes

    def names(self) -> frozenset[str]:
        """Return the names of the stored files, without folder and ending."""
        with contextlib.suppress(OSError):
            return frozenset(file.stem for file, _ in self._index())
        return frozenset()

    def keep_only(self, wanted: Callable[[str], bool]) -> None:
        """Remove the files whose name, without folder and ending, is not wanted; one that cannot be removed stays."""
        with contextlib.suppress(OSError):
            files = self._index()
            for _ in range(len(files)):
                if wanted(files[0][0].stem):
                    files.rotate(-1)
                else:
                    self._remove_oldest(files)

    def _index(self) -> deque[tuple[Path, int]]:
        """Return the stored files with their sizes, oldest first; the folder is read once."""
        if self._files is None:
            found = []
            for unfinished in self._folder.rglob(f".*{self._ending}.new") if self._folder.is_dir() else ():
                unfinished.unlink(missing_ok=True)  # of a process that was killed while it wrote
            for file in self._folder.rglob(f"*{self._ending}") if self._folder.is_dir() else ():
                status = file.stat()
                found.append((status.st_mtime_ns, file, status.st_size))
            self._files = deque((file, size) for _, file, size in sorted(found))
            self._bytes = sum(size for _, size in self._files)
        return self._files

    def _remove_oldest(self, files: deque[tuple[Path, int]]) -> None:
        file, size = files[0]
        file.unlink(missing_ok=True)  # one that cannot be removed still counts
        files.popleft()
        self._bytes -= size
        if file.parent != self._folder:
            with contextlib.suppress(OSError):  # not empty
                file.parent.rmdir()

    def _check_free(self) -> None:
        """Raise OSError when the disk is nearly full, by whatever files."""
        nearest = next(folder for folder in (self._folder, *self._folder.parents) if folder.exists())
        usage = shutil.disk_usage(nearest)
        if usage.free < _FREE_BYTES and usage.free < _FREE_SHARE * usage.total:
            raise OSError(f"only {usage.free / 1e6:.0f} MB are free ({os.fspath(nearest)})")


def _make_folders(folder: Path) -> None:
    """Create a folder and its missing parents, readable for the group. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(_FOLDER_MODE)
