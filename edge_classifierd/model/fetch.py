"""Downloads models of the catalogue: resumes, verifies the checksum, and replaces a file only by a complete one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from edge_classifierd.errors import FetchError, UsageError
from edge_classifierd.model.catalogue import BASE_URL, blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_classifierd.model.catalogue import Entry

    Progress = Callable[[int, int | None], None]

_CHUNK: Final = 1 << 16
_TIMEOUT_S: Final = 20.0
_ATTEMPTS: Final = 5
"""Number of consecutive connections without data after which a download fails."""
_MOST_BYTES: Final = 200_000_000
_CUT: Final = (http.client.HTTPException, ConnectionError, TimeoutError)


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
            _download(url, file, entry, progress)
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


def _download(url: str, file: IO[bytes], entry: Entry, progress: Progress | None) -> None:
    """Download the whole file, over as many connections as needed. Raises FetchError, OSError for the disk."""
    idle = 0
    while True:
        before = _end(file)
        try:
            if _one_connection(url, file, entry, progress):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(url, error) from error
        except urllib.error.URLError as error:
            reason = str(getattr(error.reason, "strerror", None) or error.reason)
        except _CUT as error:
            reason = str(error) or type(error).__name__
        idle = 0 if _end(file) > before else idle + 1
        if idle >= _ATTEMPTS or (idle and not _end(file)):
            remedy = "check the network and fetch it again"
            remedy += f": it goes on after the {_end(file):,} bytes that came" if _end(file) else ", or name a --mirror"
            raise FetchError(f"{url}: cannot be fetched ({reason}); {remedy}")


def _one_connection(url: str, file: IO[bytes], entry: Entry, progress: Progress | None) -> bool:
    """Download from the end of the partial file; return False when the connection ended too early."""
    there = _end(file)
    if entry.size is not None and there >= entry.size:
        return True  # the checksum is verified later
    headers = {"User-Agent": "edge-classifierd"} | ({"Range": f"bytes={there}-"} if there else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - `_checked_base` has seen the scheme
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not there:
            raise
        error.close()
        return True  # the partial file is complete
    with response:
        if there and not _continues(response, there):
            file.truncate(0)
            there = 0
        length = response.headers.get("Content-Length", "")
        size = there + int(length) if re.fullmatch(r"\d{1,12}", length) else None
        _check_size(url, size, entry, file)
        file.seek(there)
        while chunk := response.read(_CHUNK):
            there += len(chunk)
            _check_size(url, there, entry, file, grows=True)
            _write(file, chunk)
            if progress is not None:
                progress(there, size)
    return size is None or there >= size


def _continues(response: http.client.HTTPResponse, there: int) -> bool:
    """Return whether the server sends the rest, and not the whole file again."""
    sent = response.headers.get("Content-Range", "")
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and sent.startswith(f"bytes {there}-")


def _check_size(url: str, size: int | None, entry: Entry, file: IO[bytes], *, grows: bool = False) -> None:
    """Raise FetchError for a wrong size, before the disk is filled."""
    if size is None:
        return
    most = entry.size or _MOST_BYTES
    if size > most or (not grows and entry.size is not None and size != entry.size):
        file.truncate(0)
        known = f"at most {most:,}" if entry.size is None else f"{most:,}"
        raise FetchError(f"{url}: has {size:,} bytes where {known} are expected; choose another mirror")


def _refused(url: str, error: urllib.error.HTTPError) -> FetchError:
    if error.code == http.HTTPStatus.NOT_FOUND:
        return FetchError(f"{url}: 404 not found; the mirror lacks this file: check --mirror")
    return FetchError(f"{url}: the server answered {error.code} {error.reason}; try again later or name a --mirror")


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


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write all bytes: on a disk that becomes full, one call writes only a part."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)
