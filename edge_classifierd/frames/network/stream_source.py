"""A network camera (RTSP, RTMP, MJPEG or video over HTTP, a stream over TCP or UDP) as a frame source.

FFmpeg looks at a deadline only while it waits for the network, and PyAV offers no other way to interrupt it. So each
connection has a thread of its own that opens, reads, decodes and closes. A reader can leave at once; the thread ends at
the latest when FFmpeg's deadline passes.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Literal, Protocol

from edge_classifierd.config.sections.camera_addresses import shown_url, split_address
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.damage import Damage
from edge_classifierd.frames.network.http_client import HttpRequest, explain_tls, tls_context
from edge_classifierd.frames.network.mjpeg import MjpegStream
from edge_classifierd.frames.network.rtsp import explain_refusal
from edge_classifierd.frames.video import InputSettings, Video
from edge_classifierd.frames.video_errors import RefusedStreamError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    import av

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_MOST_WAITING: Final = 2
_BIG_PIXELS: Final = 6_000_000
"""Of larger frames only one waits, to save memory."""
_JOIN_S: Final = 0.2
_KEY_FRAME_WAIT_S: Final = 120.0
_KEY_FRAME_NOTICE_S: Final = 3.0
_SNIFFED_BYTES: Final = 2048
_VIDEO_TYPES: Final = ("video/", "audio/", "application/vnd.apple.mpegurl", "application/x-mpegurl")


class _Pictures(Protocol):
    """A decoded stream: `Video` or `MjpegStream`."""

    def read(self) -> av.VideoFrame | None: ...


class NetworkSource:
    """A live stream at an address; its end is a failure, so that it is opened again."""

    def __init__(
        self,
        url: str,
        *,
        transport: Literal["tcp", "udp"] = "tcp",
        verify: bool = False,
        ca_file: Path | None = None,
        stall_timeout_s: float,
        clock: Clock,
    ) -> None:
        """`transport` is for RTSP. `verify` checks the certificate of https and rtsps, with `ca_file` if given."""
        self._shown = shown_url(url)
        self._stall_timeout_s = stall_timeout_s
        options = _options(url, transport, verify=verify, ca_file=ca_file)
        self._target = _Target(url, self._shown, options, stall_timeout_s, verify, ca_file)
        self._clock = clock
        self._cancelled = False
        self._changed = threading.Condition()
        self._connection: _Connection | None = None
        self._damage = Damage(self._shown)
        self._sequence = 0

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """Damaged packets and frames so far, over all connections."""
        return self._damage.skipped

    @property
    def pauses_until_s(self) -> float:
        """Until when it waits for the camera's next key frame, while packets arrive; minus infinity otherwise."""
        connection = self._connection
        return -inf if connection is None else connection.patient_until_s

    def open(self) -> None:
        """Connect and find out what the stream holds. Raises SourceError, at the latest after the stall timeout."""
        self._disconnect()
        if self._cancelled:
            raise SourceError(f"{self._shown}: opening was cancelled")
        self._connection = connection = _Connection(self._target, self._changed, self._damage, self._clock)
        connection.thread.start()
        with self._changed:
            # One second more than the deadline of the network code, whose error names the cause.
            self._wait(lambda: connection.opened or connection.ended, self._stall_timeout_s + 1.0, "no answer")
        if connection.ended and not connection.frames:
            raise connection.error

    def read(self) -> Frame:
        """Return the next frame. Raises SourceError when the stream ends, fails or is silent for the stall timeout."""
        connection = self._connection
        if connection is None:
            raise SourceError(f"{self._shown}: not open")
        with self._changed:
            self._wait(lambda: connection.frames or connection.ended, self._stall_timeout_s, "no picture")
            if not connection.frames:
                raise connection.error
            picture, captured_s, captured_at = connection.frames.popleft()
            self._changed.notify_all()
        frame = Frame(picture, self._sequence, captured_s, captured_at)
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Disconnect; the connection's thread may run on until the deadline of the network code."""
        self._disconnect()
        self._cancelled = False

    def cancel(self) -> None:
        """End a blocked `open` or `read` at once."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], object], timeout_s: float, missed: str) -> None:
        """Wait under the lock until `condition` holds. Raises SourceError when cancelled or too late."""
        end_s = self._clock.monotonic() + timeout_s
        while not (self._cancelled or condition()):
            left_s = max(end_s, self.pauses_until_s) - self._clock.monotonic()
            if left_s <= 0 or not self._changed.wait_for(lambda: self._cancelled or condition(), left_s):
                if self._clock.monotonic() < self.pauses_until_s:
                    continue
                break
        if self._cancelled:
            raise SourceError(f"{self._shown}: reading was cancelled")
        if not condition():
            raise SourceError(f"{self._shown}: {missed} for {timeout_s:g} s; check the camera and the network")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with self._changed:
            connection.leave()
            self._changed.notify_all()
        connection.thread.join(_JOIN_S)
        if connection.thread.is_alive():
            _log.debug("%s: the old connection ends within %g s", self._shown, self._stall_timeout_s)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to connect, and how."""

    url: str
    shown: str
    """The address without secrets."""
    options: dict[str, str]
    """FFmpeg's options."""
    timeout_s: float
    verify: bool
    ca_file: Path | None


class _Connection:
    """One connection and its thread; the public attributes are guarded by the condition `changed`."""

    def __init__(self, target: _Target, changed: threading.Condition, damage: Damage, clock: Clock) -> None:
        self.frames: deque[tuple[av.VideoFrame, float, datetime]] = deque()
        self.opened = False
        self.ended = False
        self.unwanted = False
        self.patient_until_s = -inf
        """Until when a key frame may be awaited, since packets arrive."""
        self.error: BaseException = SourceError(f"{target.shown}: the stream ended; check the camera")
        """Why it ended."""
        # A daemon: one that FFmpeg still holds must not keep the process from ending.
        self.thread = threading.Thread(target=self._run, name=f"stream {target.shown}", daemon=True)
        self._target = target
        self._changed = changed
        self._damage = damage
        self._clock = clock
        self._request: HttpRequest | None = None
        self._waits_since_s: float | None = None
        self._noticed = False

    def leave(self) -> None:
        """Let the thread end: nobody reads any more."""
        self.unwanted = True
        if self._request is not None:
            self._request.abort()

    def _run(self) -> None:
        self._damage.progress()
        try:
            if not (self._target.url.startswith("http") and self._read_jpegs()):
                self._read_video()
        except BaseException as error:  # noqa: BLE001 - handed to the reader, who raises it
            self.error = error
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _read_jpegs(self) -> bool:
        """Deliver a motion JPEG stream over HTTP; False when the address has something else, which FFmpeg may read."""
        target = self._target
        self._request = request = HttpRequest(
            target.url, timeout_s=target.timeout_s, verify=target.verify, ca_file=target.ca_file
        )
        if self.unwanted:
            return True
        try:
            request.open()
            kind = request.headers.get("Content-Type", "").lower()
            if kind.startswith(_VIDEO_TYPES) and "mjpeg" not in kind:
                return False
            head = self._sniff(request) if not kind.startswith(("multipart/", "image/jp")) else b""
            if head and b"\xff\xd8\xff" not in head:
                if kind.startswith("text/html"):
                    raise SourceError(f"{target.shown}: sends a web page; give the address of the camera's video")
                return False
            parts = [head] if head else []
            stream = MjpegStream(
                lambda most: parts.pop() if parts else request.receive(most),
                shown=target.shown,
                wanted=lambda: not self.unwanted,
                damage=self._damage,
            )
            self._deliver(stream)
            self._explain_end(stream, kind)
        finally:
            request.close()
        return True

    def _sniff(self, request: HttpRequest) -> bytes:
        head = b""
        while len(head) < _SNIFFED_BYTES and b"\xff\xd8\xff" not in head and (data := request.receive(_SNIFFED_BYTES)):
            head += data
        return head

    def _explain_end(self, stream: MjpegStream, kind: str) -> None:
        if self.unwanted:
            return
        if not stream.pictures:
            raise SourceError(f"{self._target.shown}: sends no picture; check the address")
        if stream.pictures == 1 and not kind.startswith("multipart/"):
            raise SourceError(
                f"{self._target.shown}: sends single pictures; use `type: snapshot`, or give the address of the video"
            )

    def _read_video(self) -> None:
        target = self._target
        settings = InputSettings(options=target.options, timeout_s=target.timeout_s, live=True)
        try:
            video = Video(
                target.url,
                settings,
                shown=target.shown,
                on_skip=self._wait_for_key_frame,
                wanted=lambda: not self.unwanted,  # also while only sound comes
                damage=self._damage,
            )
        except RefusedStreamError as error:
            words = self._explain_refusal(logs_in=not error.unauthorised)
            raise (error if words is None else SourceError(f"{target.shown}: {words}")) from None
        except SourceError:
            if target.verify and target.url.startswith("rtsps://"):
                parts = split_address(target.url)
                cause = explain_tls(parts.hostname or "", parts.port or 322, target.ca_file, target.timeout_s)
                if cause is not None:
                    raise SourceError(f"{target.shown}: {cause}") from None
            raise
        try:
            with self._changed:
                self.opened = True
                self._changed.notify_all()
            self._deliver(video)
        finally:
            video.close()

    def _explain_refusal(self, *, logs_in: bool) -> str | None:
        target = self._target
        if not target.url.startswith(("rtsp", "http")):
            return None
        encrypted = target.url.startswith(("rtsps:", "https:"))
        return explain_refusal(
            target.url,
            target.options.get("rtsp_transport", "tcp"),
            target.timeout_s,
            context=tls_context(verify=target.verify, ca_file=target.ca_file) if encrypted else None,
            logs_in=logs_in,
        )

    def _wait_for_key_frame(self) -> None:
        now_s = self._clock.monotonic()
        self._waits_since_s = since_s = self._waits_since_s or now_s
        if now_s - since_s > _KEY_FRAME_WAIT_S:
            raise SourceError(
                f"{self._target.shown}: no key frame for {_KEY_FRAME_WAIT_S:g} s; set a shorter key frame interval "
                "(I-frame interval, GOP) in the camera"
            )
        if now_s - since_s > _KEY_FRAME_NOTICE_S and not self._noticed:
            self._noticed = True
            _log.warning(
                "%s: waits for the camera's next key frame; a shorter key frame interval (I-frame interval, GOP) in "
                "the camera's settings starts it sooner",
                self._target.shown,
            )
        self.patient_until_s = now_s + self._target.timeout_s

    def _deliver(self, stream: _Pictures) -> None:
        while (picture := stream.read()) is not None:
            item = picture, self._clock.monotonic(), self._clock.utc()
            most = 1 if picture.width * picture.height > _BIG_PIXELS else _MOST_WAITING
            del picture
            with self._changed:
                self.patient_until_s = -inf
                self._changed.wait_for(lambda most=most: self.unwanted or len(self.frames) < most)  # type: ignore[misc]
                if self.unwanted:
                    return
                self.frames.append(item)
                self.opened = True
                self._changed.notify_all()
            del item


def _options(url: str, transport: str, *, verify: bool, ca_file: Path | None) -> dict[str, str]:
    """Return FFmpeg's options for low latency: no buffering ahead, half a second of analysis instead of five."""
    options = {"fflags": "+nobuffer", "analyzeduration": "500000", "probesize": "1000000"}
    if url.startswith("rtsp"):
        options |= {"rtsp_transport": transport, "allowed_media_types": "video", "max_delay": "500000"}
    if url.startswith(("https", "rtsps")) and verify:
        options |= {"tls_verify": "1", "ca_file": str(ca_file or ssl.get_default_verify_paths().cafile or "")}
    return options
