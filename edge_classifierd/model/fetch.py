"""Downloads models of the catalogue: resumes, verifies the checksum, and replaces a file only by a complete one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import urllib.parse
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from edge_classifierd.errors import FetchError, UsageError
from edge_classifierd.model.catalogue import BASE_URL, blob_id
from edge_classifierd.model.download import Wanted, download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.model.catalogue import Entry
    from edge_classifierd.model.download import Progress


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file."""

    path: Path
    fresh: bool
    """False when it existed already."""


def fetch(entry: Entry, folder: Path, *, mirror: str | None = None, progress: Progress | None = None) -> Fetched:
    """Download a model into `folder`.

    Continues an interrupted download (`.<name>.part`). An existing file is replaced only when the new one is complete,
    verified and written to the disk. `progress` is called with the bytes so far and the size, None where it is unknown.
    Raises FetchError; UsageError for a mirror that is no http or https address.
    """
    url = f"{_checked_base(mirror or BASE_URL)}/{entry.file_name}"
    target = folder / entry.file_name
    try:
        if target.is_file() and blob_id(target) == entry.blob:
            return Fetched(target, fresh=False)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{entry.file_name}.part"
        with _locked(part, entry) as file:
            download(_wanted(url, entry), file, progress)
            if blob_id(part) != entry.blob:
                part.unlink()
                raise FetchError(
                    f"{url}: the content is not that of the catalogue (blob {entry.blob[:12]}…); "
                    "fetch it again, or choose another mirror"
                )
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            part.replace(target)
    except OSError as error:
        raise _disk_error(error, folder, entry) from error
    return Fetched(target, fresh=True)


def _checked_base(base: str) -> str:
    parts = urllib.parse.urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{base}: not an address of a mirror; it begins with https:// or http://")
    return base.rstrip("/")


def _wanted(url: str, entry: Entry) -> Wanted:
    return Wanted(
        url,
        entry.size,
        plain_http=True,
        remedy="check the network, or name another --mirror",
        resumes="check the network and fetch it again: it goes on",
    )


@contextlib.contextmanager
def _locked(part: Path, entry: Entry) -> Iterator[IO[bytes]]:
    """Open and lock the partial file. Raises FetchError when another process downloads it."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(f"{entry.name}: another process downloads it now; wait for that one") from error
        if not part.exists():  # it was completed between opening and locking
            raise FetchError(f"{entry.name}: another process has just downloaded it; try again")
        try:
            yield file
        finally:
            # An empty partial file is of no use; one that was moved into place is not empty.
            if not os.fstat(file.fileno()).st_size:
                part.unlink(missing_ok=True)


def _disk_error(error: OSError, folder: Path, entry: Entry) -> FetchError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        part = folder / f".{entry.file_name}.part"
        with contextlib.suppress(OSError):
            part.unlink()  # the daemon needs the space
        free = shutil.disk_usage(folder).free
        needed = "" if entry.size is None else f", {entry.size / 1e6:.1f} MB are needed"
        space = f"{free / 1e6:.1f} MB free{needed}"
        return FetchError(f"{folder}: the disk is full ({space}); free some or name a --folder")
    where = error.filename or folder
    return FetchError(f"{where}: {error.strerror or error}; name a folder that can be written (--folder)")
