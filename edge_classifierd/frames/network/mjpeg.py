"""Reads motion JPEG from a byte stream by its JPEG markers, whatever stands between the pictures.

Cameras differ in boundaries, part headers and lengths, or have none; every JPEG has markers (ITU-T T.81, B.1).
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.damage import Damage
from edge_classifierd.frames.jpeg import TooLargeError, decode_jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    import av

_START, _END = b"\xff\xd8", b"\xff\xd9"
# The end of a scan: any marker but a stuffed byte, a restart marker or a fill byte.
_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_READ_BYTES: Final = 65_536
_MOST_JPEG_BYTES: Final = 16_000_000
_MOST_DECODED_BYTES: Final = 40_000_000
_MOST_OTHER_BYTES: Final = 4_000_000
"""Bytes between two pictures after which the stream is given up."""


class JpegSplitter:
    """Splits a byte stream into JPEG files; keeps at most one picture."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = -1
        """Where the walk through the markers of a picture continues; -1 outside a picture."""
        self._in_scan = False
        self._other = 0
        self.damaged = 0
        """Beginnings of pictures that could not be followed to an end."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pictures that `data` completes.

        Raises:
            ValueError: A picture, or the data between two of them, is too large.
        """
        self._data += data
        found = []
        while (picture := self._next()) is not None:
            found.append(picture)
        if len(self._data) > _MOST_JPEG_BYTES:
            raise ValueError(f"a picture is larger than {_MOST_JPEG_BYTES / 1e6:.0f} MB")
        if self._other > _MOST_OTHER_BYTES:
            raise ValueError(f"no picture in {_MOST_OTHER_BYTES / 1e6:.0f} MB of data")
        return found

    def _next(self) -> bytes | None:
        while True:
            if self._at < 0 and not self._find_start():
                return None
            end = self._walk()
            if end == 0:
                return None
            if end < 0:
                self._drop(2)
                self.damaged += 1
                continue
            picture = bytes(self._data[:end])
            self._drop(end)
            self._other = 0
            # A camera without end markers: the scan runs into the next picture's boundary.
            if not picture.endswith(_END):
                picture = picture[: max(picture.rfind(b"\r\n--"), 0) or None] + _END
            return picture

    def _find_start(self) -> bool:
        at = self._data.find(_START)
        if at < 0:
            keep = 1 if self._data.endswith(b"\xff") else 0
            self._other += len(self._data) - keep
            del self._data[: len(self._data) - keep]
            return False
        self._drop(at)
        self._at, self._in_scan = 2, False
        return True

    def _walk(self) -> int:
        """Return the picture's length; 0 when more data is needed, -1 when this is no JPEG."""
        data = self._data
        while True:
            if self._in_scan:
                found = _AFTER_SCAN.search(data, self._at)
                if found is None:
                    self._at = max(self._at, len(data) - 1)
                    return 0
                self._at, self._in_scan = found.start(), False
            if len(data) < self._at + 4 and not data.startswith(_END, self._at):
                return 0
            if data[self._at] != 0xFF:
                return -1
            marker = data[self._at + 1]
            if marker == 0xD9:
                return self._at + 2
            if marker == 0xD8:
                return self._at
            if marker == 0xFF:
                self._at += 1
                continue
            length = int.from_bytes(data[self._at + 2 : self._at + 4], "big")
            if marker < 0xC0 or length < 2:
                return -1
            self._at += 2 + length
            self._in_scan = marker == 0xDA

    def _drop(self, count: int) -> None:
        self._other += count
        del self._data[:count]
        self._at = -1


class MjpegStream:
    """The pictures of a motion JPEG stream; used by one thread."""

    def __init__(
        self,
        receive: Callable[[int], bytes],
        *,
        shown: str,
        wanted: Callable[[], bool],
        damage: Damage | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            receive: Returns up to that many bytes, none at the end.
            shown: Names the stream in messages.
            wanted: Called before every picture: when it returns False, `read` returns None.
            damage: Counts what is skipped, over several streams of one source.
        """
        self._receive = receive
        self._shown = shown
        self._wanted = wanted
        self._splitter = JpegSplitter()
        self._damage = damage or Damage(shown)
        self._ready: deque[bytes] = deque()
        self.pictures = 0
        """Complete pictures so far."""

    @property
    def skipped(self) -> int:
        """Damaged pictures so far."""
        return self._damage.skipped

    def read(self) -> av.VideoFrame | None:
        """Return the next good picture; None at the end. Raises SourceError."""
        while self._wanted():
            if not self._ready:
                data = self._receive(_READ_BYTES)
                if not data:
                    return None
                self._split(data)
                continue
            self.pictures += 1
            try:
                picture = decode_jpeg(self._ready.popleft(), self._shown, most_memory=_MOST_DECODED_BYTES)
            except TooLargeError:
                raise
            except SourceError:
                self._damage.skip("a damaged picture")
                continue
            self._damage.good()
            return picture
        return None

    def _split(self, data: bytes) -> None:
        before = self._splitter.damaged
        try:
            self._ready.extend(self._splitter.feed(data))
        except ValueError as error:
            raise SourceError(f"{self._shown}: {error}; check the address and the camera") from None
        for _ in range(self._splitter.damaged - before):
            self._damage.skip("a damaged picture")
