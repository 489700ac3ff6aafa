"""Downloads one file over HTTP: resumes, and bounds size, redirects and time before the disk or a thread suffers."""

from __future__ import annotations

import http.client
import io
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from edge_classifierd.errors import FetchError, RefusedFetchError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Progress = Callable[[int, int | None], None]

MOST_BYTES: Final = 200_000_000
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_CHUNK: Final = 1 << 16
_TIMEOUT_S: Final = 20.0
"""For connecting, and between two packets."""
_ATTEMPTS: Final = 5
"""Number of consecutive connections with fewer than `_LEAST_BYTES` after which a download fails."""
_MOST_REDIRECTS: Final = 5
PACE_S: Final = 30.0
_LEAST_BYTES: Final = 30_000
"""A connection that delivers less in `PACE_S` is ended: a byte at a time would occupy the thread for months."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is downloaded, and what the messages about it advise."""

    url: str
    size: int | None = None
    """Bytes; None where they are not known before."""
    plain_http: bool = False
    """Whether a redirect may lead to plain HTTP on any host, not only on this machine."""
    spare_bytes: int = 0
    """Bytes that must stay free on the disk."""
    remedy: str = "check the address and the server"
    resumes: str = "it goes on"
    shown: str = ""
    """The address in messages; default: the whole."""

    @property
    def title(self) -> str:
        """What the messages begin with."""
        return self.shown or self.url


def is_acceptable(url: str) -> bool:
    """Return whether an address is HTTPS, or plain HTTP to this machine, where nobody can read what is fetched."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _THIS_MACHINE))
    except ValueError:
        return False


def download(
    wanted: Wanted,
    file: IO[bytes],
    progress: Progress | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Download the whole file, over as many connections as needed, after the bytes that `file` has.

    Proxies come from the environment (`https_proxy`, `no_proxy`). The content is not verified.

    Args:
        wanted: What to download.
        file: Opened for reading and writing, without a buffer.
        progress: Called with the bytes so far and the size, None where it is unknown.
        cancelled: Returns whether to stop; asked before each connection and for each piece.

    Raises:
        FetchError: It cannot be fetched now; RefusedFetchError: and most likely not soon either.
        OSError: The disk failed.
    """
    opener = _opener()
    idle = 0
    while True:
        before = _end(file)
        try:
            if _one_connection(opener, wanted, file, progress, cancelled):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(wanted, error) from error
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            reason = _reason(error)
        if cancelled():
            raise FetchError(f"{wanted.title}: the download was cancelled")
        idle = 0 if _end(file) - before >= _LEAST_BYTES else idle + 1
        if idle >= _ATTEMPTS or (idle and not _end(file)):
            there = _end(file)
            remedy = f"{wanted.resumes} after the {there:,} bytes that came" if there else wanted.remedy
            raise FetchError(f"{wanted.title}: cannot be fetched ({reason}); {remedy}")


def probe(wanted: Wanted) -> int | None:
    """Return the size that the server gives for a file, without downloading it. Raises FetchError."""
    try:
        with _open(_opener(), wanted, {"User-Agent": "edge-classifierd"}) as response:
            return _length(response)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(wanted, error) from error
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{wanted.title}: cannot be fetched ({_reason(error)}); {wanted.remedy}") from error


def _one_connection(
    opener: urllib.request.OpenerDirector,
    wanted: Wanted,
    file: IO[bytes],
    progress: Progress | None,
    cancelled: Callable[[], bool],
) -> bool:
    """Download from the end of the partial file; return False when the connection ended too early."""
    there = _end(file)
    if wanted.size is not None and there >= wanted.size:
        return True  # the checksum is verified later
    headers = {"User-Agent": "edge-classifierd"} | ({"Range": f"bytes={there}-"} if there else {})
    try:
        response = _open(opener, wanted, headers)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not there:
            raise
        error.close()
        return True  # the partial file is complete
    with response:
        if there and not _continues(response, there):
            file.truncate(0)
            there = 0
        length = _length(response)
        size = None if length is None else there + length
        _check_size(wanted, size, file)
        _check_space(wanted, file, length or 0)
        file.seek(there)
        while not cancelled() and (chunk := _received(response)):
            there += len(chunk)
            _check_size(wanted, there, file, grows=True)
            if length is None:
                _check_space(wanted, file, len(chunk))
            _write(file, chunk)
            if progress is not None:
                progress(there, size)
    return not cancelled() and (size is None or there >= size)


def _open(opener: urllib.request.OpenerDirector, wanted: Wanted, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Send the request and follow redirects; the library would read a redirect's body, however long, into memory."""
    url = wanted.url
    for _ in range(_MOST_REDIRECTS + 1):
        try:
            request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the opener has HTTP only
            response: http.client.HTTPResponse = opener.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            location = error.headers.get("Location")
            if error.code not in _REDIRECTS or location is None:
                raise
            error.close()
            url = urljoin(url, location)
            if not (is_acceptable(url) or (wanted.plain_http and urlsplit(url).scheme == "http")):
                raise RefusedFetchError(
                    f"{wanted.title}: redirects to an address that is not https; {wanted.remedy}"
                ) from None
        except urllib.error.URLError:
            raise
        except OSError as error:
            raise urllib.error.URLError(error) from error
        else:
            return response
    raise RefusedFetchError(f"{wanted.title}: redirects more than {_MOST_REDIRECTS} times; {wanted.remedy}")


def _received(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except OSError as error:
        raise urllib.error.URLError(error) from error


def _reason(error: Exception) -> str:
    """Return why a connection failed, in a few words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}; see SSL_CERT_FILE"
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return "".join(one for one in words if one.isprintable())[:200]


def _length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d{1,12}", length) else None


def _continues(response: http.client.HTTPResponse, there: int) -> bool:
    """Return whether the server sends the rest, and not the whole file again."""
    sent = response.headers.get("Content-Range", "")
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and sent.startswith(f"bytes {there}-")


def _check_size(wanted: Wanted, size: int | None, file: IO[bytes], *, grows: bool = False) -> None:
    """Raise FetchError for a wrong size, before the disk is filled."""
    if size is None:
        return
    most = wanted.size or MOST_BYTES
    if size > most or (not grows and wanted.size is not None and size != wanted.size):
        file.truncate(0)
        known = f"at most {most:,}" if wanted.size is None else f"{most:,}"
        what = "sends more than" if grows else f"has {size:,} bytes where"
        expected = f"{known} bytes" if grows else f"{known} are expected"
        raise RefusedFetchError(f"{wanted.title}: {what} {expected}; {wanted.remedy}")


def _check_space(wanted: Wanted, file: IO[bytes], rest: int) -> None:
    """Raise FetchError when `rest` more bytes would leave too little space on the disk."""
    space = os.fstatvfs(file.fileno())
    free = space.f_bavail * space.f_frsize
    if wanted.spare_bytes and free - rest < wanted.spare_bytes:
        file.truncate(0)
        raise FetchError(
            f"{wanted.title}: the disk has {free / 1e6:.0f} MB free and {wanted.spare_bytes / 1e6:.0f} MB must stay "
            "free; free some"
        )


def _refused(wanted: Wanted, error: urllib.error.HTTPError) -> FetchError:
    if error.code in {404, 410}:
        return RefusedFetchError(f"{wanted.title}: {error.code} not found; {wanted.remedy}")
    reason = "".join(one for one in str(error.reason) if one.isprintable())[:60]
    kind = FetchError if error.code >= 500 or error.code == http.HTTPStatus.TOO_MANY_REQUESTS else RefusedFetchError
    return kind(f"{wanted.title}: the server answers {error.code} {reason}; {wanted.remedy}")


def _write(file: IO[bytes], chunk: bytes) -> None:
    """Write all bytes: on a disk that becomes full, one call writes only a part."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


class _Paced(io.RawIOBase):
    """The bytes of a connection. Raises TimeoutError when fewer than 1 kB/s come, also in the headers."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._since_s = time.monotonic()
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:  # type: ignore[override] # as SocketIO
        if (now_s := time.monotonic()) - self._since_s > PACE_S:
            if self._bytes < _LEAST_BYTES:
                raise TimeoutError(f"it sends less than {_LEAST_BYTES / PACE_S / 1000:g} kB/s")
            self._since_s, self._bytes = now_s, 0
        number: int | None = self._raw.readinto(buffer)
        self._bytes += number or 0
        return number

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: object, **options: object) -> None:
        super().__init__(sock, *arguments, **options)  # type: ignore[arg-type] # passed on
        self.fp = io.BufferedReader(_Paced(self.fp.detach()))


class _HttpConnection(http.client.HTTPConnection):
    response_class = _PacedResponse


class _HttpsConnection(http.client.HTTPSConnection):
    response_class = _PacedResponse


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, request, context=ssl.create_default_context())


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for HTTP and HTTPS only: the default one also opens files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
