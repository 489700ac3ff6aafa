"""A camera that sends one JPEG per HTTP request, as a frame source."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from edge_classifierd.config.sections.camera_addresses import shown_url
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.damage import Damage
from edge_classifierd.frames.jpeg import TooLargeError, decode_jpeg
from edge_classifierd.frames.network.http_client import HttpRequest, shown_names
from edge_classifierd.frames.pacing import Pause

if TYPE_CHECKING:
    from pathlib import Path

    import av

    from edge_classifierd.clock import Clock

_MOST_BYTES: Final = 16_000_000
_MOST_MEMORY: Final = 100_000_000
_READ_BYTES: Final = 65_536
_MOST_DAMAGED: Final = 10
_SIGNATURES: Final = (
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif", "a HEIC picture"),
)
"""How to recognise what cameras send instead of a JPEG: a place, the bytes there, and a name."""


class SnapshotSource:
    """Fetches a picture every `interval_s`; one that the camera reports as unchanged (304) is no new frame."""

    def __init__(
        self,
        url: str,
        *,
        interval_s: float,
        verify: bool = False,
        ca_file: Path | None = None,
        stall_timeout_s: float,
        clock: Clock,
    ) -> None:
        """`verify` checks the certificate of https, with `ca_file` if given. A request may take `stall_timeout_s`."""
        self._url = url
        self._shown = shown_url(url)
        self._interval_s = interval_s
        self._verify, self._ca_file = verify, ca_file
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        self._cancelled = threading.Event()
        self._pause = Pause(clock, self._cancelled)
        self._request: HttpRequest | None = None
        self._due_s = 0.0
        self._damage = Damage(
            self._shown,
            most_in_a_row=_MOST_DAMAGED,
            too_many="damaged or incomplete pictures in a row; check the camera and the network",
        )
        self._conditions: dict[str, str] = {}
        """Headers with which the camera can answer that the picture is unchanged."""
        self._sequence = 0

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """Damaged and incomplete pictures so far."""
        return self._damage.skipped

    @property
    def pauses_until_s(self) -> float:
        """Until when `read` waits for the next request's time, or has waited."""
        return self._pause.until_s

    def open(self) -> None:
        """Fetch nothing yet; the first `read` does."""
        self._conditions = {}
        self._damage.progress()
        if self._cancelled.is_set():
            raise SourceError(f"{self._shown}: opening was cancelled")

    def read(self) -> Frame:
        """Return the next picture. Raises SourceError when it cannot be fetched."""
        while not self._cancelled.is_set():
            self._pause.wait(self._due_s - self._clock.monotonic())
            if self._cancelled.is_set():
                break
            self._due_s = self._clock.monotonic() + self._interval_s
            picture = self._fetch()
            if picture is not None:
                frame = Frame(picture, self._sequence, self._clock.monotonic(), self._clock.utc())
                self._sequence += 1
                return frame
        raise SourceError(f"{self._shown}: reading was cancelled")

    def close(self) -> None:
        """End."""
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a blocked `read` soon."""
        self._cancelled.set()
        request = self._request
        if request is not None:
            request.abort()

    def _fetch(self) -> av.VideoFrame | None:
        """Return the camera's picture; None when it is unchanged or damaged."""
        self._request = request = HttpRequest(
            self._url, timeout_s=self._stall_timeout_s, verify=self._verify, ca_file=self._ca_file
        )
        try:
            request.open(self._conditions)
            if request.status == 304:
                if not self._conditions:
                    raise SourceError(
                        f"{self._shown}: 304 not modified, although it has sent no picture; check the camera, and the "
                        "proxy if there is one"
                    )
                return None
            data = self._receive(request)
        finally:
            self._request = None
            request.close()
        try:
            picture = decode_jpeg(data, self._shown, most_memory=_MOST_MEMORY)
        except TooLargeError:
            raise
        except SourceError:
            self._damage.skip("a damaged or incomplete picture")
            return None
        self._damage.good()
        pairs = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
        self._conditions = {condition: value for name, condition in pairs if (value := request.headers.get(name))}
        return picture

    def _receive(self, request: HttpRequest) -> bytes:
        kind = request.headers.get("Content-Type", "").lower()
        if kind.startswith(("multipart/", "video/")):
            raise SourceError(f"{self._shown}: sends a video; use `type: stream`")
        data = self._body(request)
        if data.startswith(b"\xff\xd8"):
            return data
        what = next((name for at, start, name in _SIGNATURES if data.startswith(start, at)), "")
        if not data:
            raise SourceError(f"{self._shown}: answers with an empty body; check the address and the camera")
        if not what and (kind.startswith("text/html") or data[:14].lower().startswith((b"<html", b"<!doctype html"))):
            what = "a web page (text/html)"
        elif not what:
            what = f"something that is not a JPEG ({shown_names(kind.partition(';')[0].strip()) or 'of no type'})"
        raise SourceError(
            f"{self._shown}: answers with {what}; give the address of the camera's snapshot, and set it to JPEG"
        )

    def _body(self, request: HttpRequest) -> bytes:
        """Return the body without white space before it; only a part of it when the connection breaks off."""
        data = b""
        while True:
            try:
                more = request.receive(_READ_BYTES)
            except SourceError:
                if not data or self._cancelled.is_set():
                    raise
                return data
            if not more:
                return data
            data = data + more if data else more.lstrip()
            if len(data) > _MOST_BYTES:
                raise SourceError(
                    f"{self._shown}: a picture is larger than {_MOST_BYTES / 1e6:.0f} MB; check the address"
                )
