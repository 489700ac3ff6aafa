"""A network camera (RTSP, MJPEG or video over HTTP) as a frame source.

FFmpeg looks at a deadline only while it waits for the network, and PyAV offers no other way to interrupt it. So each
connection has a thread of its own that opens, reads, decodes and closes; whoever waits for its frames can turn away at
once, and the thread ends by itself at the latest when FFmpeg's deadline passes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Literal

from edge_classifierd.config.sections.sources import shown_url
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.video import Video

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import av

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_MOST_WAITING = 2
_JOIN_S = 0.2


class NetworkSource:
    """A live stream at `rtsp://`, `rtsps://`, `http://` or `https://`; its end is a failure, so that it is reopened."""

    def __init__(
        self, url: str, *, transport: Literal["tcp", "udp"] = "tcp", stall_timeout_s: float, clock: Clock
    ) -> None:
        self._url = url
        self._shown = shown_url(url)
        self._options = _options(url, transport)
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        self._cancelled = False
        self._changed = threading.Condition()
        self._connection: _Connection | None = None
        self._skipped_before = 0
        self._sequence = 0

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """Damaged packets and frames so far, over all connections."""
        connection = self._connection
        return self._skipped_before + (0 if connection is None else connection.skipped)

    @property
    def pauses_until_s(self) -> float:
        """Minus infinity: it waits for the camera only."""
        return -inf

    def open(self) -> None:
        """Connect and learn what the stream holds. Raises SourceError, at the latest after the stall timeout."""
        self._disconnect()
        if self._cancelled:
            raise SourceError(f"{self._shown}: opening was cancelled")
        self._connection = connection = _Connection(
            self._url,
            shown=self._shown,
            options=self._options,
            timeout_s=self._stall_timeout_s,
            changed=self._changed,
            clock=self._clock,
        )
        connection.thread.start()
        with self._changed:
            # One second more than FFmpeg's own deadline, whose sentence says more.
            self._wait(lambda: connection.opened or connection.ended, self._stall_timeout_s + 1.0, "no answer")
        if connection.ended and not connection.frames:
            raise connection.failure()

    def read(self) -> Frame:
        """The next frame. Raises SourceError when the stream ends, fails or is silent for the stall timeout."""
        connection = self._connection
        if connection is None:
            raise SourceError(f"{self._shown}: not open")
        with self._changed:
            self._wait(lambda: connection.frames or connection.ended, self._stall_timeout_s, "no picture")
            if not connection.frames:
                raise connection.failure()
            picture, captured_s, captured_at = connection.frames.popleft()
            self._changed.notify_all()
        frame = Frame(picture, self._sequence, captured_s, captured_at)
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Disconnect; the connection's thread may outlive this until FFmpeg's deadline ends its waiting."""
        self._disconnect()
        self._cancelled = False

    def cancel(self) -> None:
        """End a blocked `open` or `read` at once."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], object], timeout_s: float, missed: str) -> None:
        """Wait under the lock until `condition` holds. Raises SourceError when cancelled or too late."""
        self._changed.wait_for(lambda: self._cancelled or condition(), timeout_s)
        if self._cancelled:
            raise SourceError(f"{self._shown}: reading was cancelled")
        if not condition():
            raise SourceError(f"{self._shown}: {missed} for {timeout_s:g} s; check the camera and the network")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with self._changed:
            connection.unwanted = True
            self._changed.notify_all()
        connection.thread.join(_JOIN_S)
        self._skipped_before += connection.skipped
        if connection.thread.is_alive():
            _log.debug("%s: the old connection ends within %g s", self._shown, self._stall_timeout_s)


class _Connection:
    """One connection and its thread; everything but `video` is guarded by the condition."""

    def __init__(
        self,
        url: str,
        *,
        shown: str,
        options: dict[str, str],
        timeout_s: float,
        changed: threading.Condition,
        clock: Clock,
    ) -> None:
        self.frames: deque[tuple[av.VideoFrame, float, datetime]] = deque()
        self.opened = False
        self.ended = False
        self.unwanted = False
        self.skipped = 0
        # A daemon: one that FFmpeg still holds must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"stream {shown}", daemon=True)
        self._url = url
        self._shown = shown
        self._options = options
        self._timeout_s = timeout_s
        self._changed = changed
        self._clock = clock
        self._error: BaseException = SourceError(f"{shown}: the stream ended; check the camera")

    def failure(self) -> BaseException:
        """Why it ended."""
        return self._error

    def _run(self) -> None:
        try:
            video = Video(
                self._url,
                shown=self._shown,
                options=self._options,
                timeout_s=self._timeout_s,
                sliced=True,
                wanted=lambda: not self.unwanted,  # also when no picture comes, only sound
            )
            try:
                self._deliver(video)
                if video.stills:
                    raise SourceError(f"{self._shown}: sends single pictures; give the address of the camera's video")
            finally:
                video.close()
        except BaseException as error:  # noqa: BLE001 - handed to the reader, who raises it
            self._error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _deliver(self, video: Video) -> None:
        with self._changed:
            self.opened = True
            self._changed.notify_all()
        while (picture := video.read()) is not None:
            item = picture, self._clock.monotonic(), self._clock.utc()
            with self._changed:
                self.skipped = video.skipped
                self._changed.wait_for(lambda: self.unwanted or len(self.frames) < _MOST_WAITING)
                if self.unwanted:
                    return
                self.frames.append(item)
                self._changed.notify_all()
        self.skipped = video.skipped


def _options(url: str, transport: str) -> dict[str, str]:
    """FFmpeg's options for low latency: no buffering ahead, and half a second of analysis instead of five."""
    options = {"fflags": "+nobuffer+discardcorrupt", "analyzeduration": "500000", "probesize": "1000000"}
    if url.startswith("rtsp"):
        options |= {"rtsp_transport": transport, "allowed_media_types": "video", "max_delay": "500000"}
    return options
