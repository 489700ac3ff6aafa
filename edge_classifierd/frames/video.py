"""One opened FFmpeg input: its video stream, decoded frame by frame, with its failures in plain words."""

from __future__ import annotations

import errno
import logging
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import av
import av.error
import numpy as np

from edge_classifierd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_log = logging.getLogger(__name__)

_EPISODE_FRAMES: Final = 250
"""Good frames after which the next damaged packet is news again."""
_MOST_BAD_IN_A_ROW: Final = 500


class Video:
    """An open input; used by one thread, closed by the same one (FFmpeg crashes otherwise).

    `shown` names the input in messages, free of secrets. Frames own their memory. `on_idle` makes sense for inputs
    opened non-blocking: it is called whenever no packet is there yet, waits a little, and may raise.
    """

    def __init__(
        self,
        address: str,
        *,
        shown: str,
        format_name: str | None = None,
        options: dict[str, str] | None = None,
        timeout_s: float | None = None,
        sliced: bool = False,
        copy_packets: bool = False,
        quiet: bool = False,
        on_idle: Callable[[], None] | None = None,
        wanted: Callable[[], bool] | None = None,
        words: Mapping[int, str] | None = None,
        ends: bool = False,
    ) -> None:
        """Open `address`; blocks for at most about `timeout_s`. Raises SourceError.

        `sliced` decodes with slice threads only, which add no latency. `copy_packets` decodes from copies of the
        packets, for inputs whose packets lie in memory that closing unmaps. `words` says what an error
        number means here. `quiet` warns of no damage, when it was warned of before. `wanted` is asked before every
        packet of the input, of sound too: once it says no, `read` returns None. What `ends` is
        read on however much of it is damaged.
        """
        self.skipped = 0
        """Damaged packets and frames so far."""
        self._shown = shown
        self._timeout_s = timeout_s
        self._copy_packets = copy_packets
        self._on_idle = on_idle
        self._wanted = wanted
        self._words = words or {}
        self._ready: deque[av.VideoFrame] = deque()
        self._ends = ends
        self._bad_in_a_row = 0
        self._good_in_a_row = _EPISODE_FRAMES
        self._quiet = quiet
        self._mirrored: bool | None = None  # as its first frame is
        self._last_s = 0.0
        begun_s = time.monotonic()
        try:
            # `options=` would reach the decoder too, where `video_size` overrules what the camera really delivers.
            self._container: InputContainer = av.open(
                address,
                "r",
                format=format_name,
                container_options=options or {},
                timeout=timeout_s,
                metadata_errors="replace",
            )
        except av.error.FFmpegError as error:
            # Not `from error`: its own text holds the address, secrets included.
            if timeout_s is not None and time.monotonic() - begun_s >= timeout_s:
                raise SourceError(f"{shown}: {_no_answer(timeout_s)}") from None  # RTSP calls it invalid data
            raise self._failure(error, opening=True) from None
        except ValueError as error:
            raise SourceError(f"{shown}: cannot be opened; check the address") from error
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{shown}: carries no video; check the address")
        self._stream: VideoStream = self._container.streams.video[0]
        context: object = self._stream.codec_context
        if context is None:
            self._container.close()
            raise SourceError(f"{shown}: its video codec is unknown to FFmpeg; choose H.264 or MJPEG")
        self._stream.thread_type = "SLICE" if sliced else "AUTO"
        # Packets of every stream, not of ours alone: where sound goes on without pictures PyAV would never come back.
        self._packets: Iterator[Packet[Any]] = self._container.demux()

    @property
    def period_s(self) -> float | None:
        """The usual distance of two frames, when the input says."""
        rate = self._stream.average_rate
        return float(1 / rate) if rate else None

    @property
    def stills(self) -> bool:
        """Whether the input is a file of one picture, or several such in a row: what cameras send as a snapshot."""
        return self._container.format.name.endswith("_pipe")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the input announces; 0 when it does not."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def read(self) -> av.VideoFrame | None:
        """The next good frame; None at the end. Raises SourceError when the input fails or nothing can be decoded."""
        while not self._ready:
            packet = self._next_packet()
            if packet is None:
                return None
            if packet.is_corrupt:
                self._skip("a damaged packet")
                continue
            try:
                frames = packet.decode()
            except av.error.EOFError:  # asked for more after its end
                return None
            except av.error.InvalidDataError:
                self._skip("data that cannot be decoded")
                continue
            except av.error.FFmpegError as error:
                raise self._failure(error, opening=False) from None
            for frame in frames:
                if not isinstance(frame, av.VideoFrame) or frame.is_corrupt:
                    self._skip("a damaged frame")
                else:
                    self._ready.append(frame)
        self._bad_in_a_row = 0
        self._good_in_a_row += 1
        picture = self._ready.popleft()
        self._last_s = picture.time or 0.0
        self._unmirror(picture)
        return picture

    def close(self) -> None:
        """Close the input; safe to call twice."""
        self._ready.clear()
        self._packets = iter(())
        self._container.close()

    def _unmirror(self, picture: av.VideoFrame) -> None:
        if self._mirrored is None:
            self._mirrored = _is_mirrored(picture)
        if self._mirrored:
            flip_vertically(picture)

    def _next_packet(self) -> Packet[Any] | None:
        """The next packet of the video; None at the end, or when it is wanted no more."""
        while self._wanted is None or self._wanted():
            try:
                packet = next(self._packets, None)
            except av.error.BlockingIOError as error:
                if self._on_idle is None:
                    raise self._failure(error, opening=False) from None
                self._on_idle()
            except av.error.InvalidDataError:
                self._skip("data that cannot be read")
            except av.error.FFmpegError as error:
                raise self._failure(error, opening=False) from None
            else:
                if self._ends:
                    self._bad_in_a_row = 0  # it gets on
                if packet is None:
                    self._look_for_a_missing_end()
                    return None
                if packet.stream_index == self._stream.index:
                    return self._copied(packet) if self._copy_packets and packet.size else packet
                continue
            self._packets = self._container.demux()  # an error ended the old iterator
        return None

    def _look_for_a_missing_end(self) -> None:
        """Matroska files that are cut short end without a word from FFmpeg, but their header tells the duration."""
        container = self._container
        if self.skipped or container.duration is None or not container.format.name.startswith("matroska"):
            return
        if container.duration / 1e6 - self._last_s > max(1.0, 3 * (self.period_s or 0.0)):
            self._skip(f"the end after {self._last_s:.1f} of {container.duration / 1e6:.1f} s, which is missing")

    def _copied(self, packet: Packet[Any]) -> Packet[Any]:
        copy: Packet[Any] = av.Packet(bytes(packet))
        copy.stream = self._stream
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        copy.is_corrupt = packet.is_corrupt
        return copy

    def _skip(self, what: str) -> None:
        self.skipped += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _MOST_BAD_IN_A_ROW:
            raise SourceError(f"{self._shown}: {self._bad_in_a_row} damaged packets in a row; check the source")
        if self._good_in_a_row >= _EPISODE_FRAMES and not self._quiet:
            _log.warning("%s: skipped %s; more of it is skipped in silence", self._shown, what)
        self._good_in_a_row = 0

    def _failure(self, error: av.error.FFmpegError, *, opening: bool) -> SourceError:
        words = self._words.get(error.errno or 0) or _in_words(error, self._timeout_s, opening=opening)
        return SourceError(f"{self._shown}: {words}")


def flip_vertically(picture: av.VideoFrame) -> None:
    """Swap top and bottom in place; a mirrored picture is upright then, once its `rotation` is applied."""
    picture.make_writable()
    for plane in picture.planes:
        rows = np.ndarray((plane.height, plane.line_size), np.uint8, memoryview(plane))
        rows[:] = rows[::-1].copy()


def _is_mirrored(picture: av.VideoFrame) -> bool:
    """Return whether the display matrix mirrors the picture; FFmpeg's `rotation` has only the angle.

    The matrix is `{a, b, u, c, d, v, x, y, w}` (libavutil/display.h). Reading it makes a reference cycle in PyAV, which
    only the garbage collector frees, so it is read once per input.
    """
    side_data = cast("Mapping[str, Any]", picture.side_data)
    try:
        matrix = side_data["DISPLAYMATRIX"]
    except (KeyError, ValueError):  # ValueError: a kind of side data that PyAV does not support
        return False
    a, b, _, c, d = struct.unpack_from("5i", bytes(matrix))
    return bool(a * d - b * c < 0)


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPUnauthorizedError, "401 unauthorised; check the user name and password in the address"),
    (av.error.HTTPForbiddenError, "403 forbidden; check the account's rights on the camera"),
    (av.error.HTTPNotFoundError, "404 not found; check the path in the address"),
    (av.error.ConnectionRefusedError, "connection refused; check that the camera is on, and the port"),
    (av.error.ConnectionResetError, "the connection was reset; check the camera"),
    (av.error.BrokenPipeError, "the connection was closed; check the camera"),
    (av.error.FileNotFoundError, "no such file; check the path"),
    (av.error.PermissionError, "permission denied; make it readable for the service user"),
    (av.error.IsADirectoryError, "a folder, not a video; for pictures use `type: folder`"),
    (av.error.ProtocolNotFoundError, "this kind of address is unknown to FFmpeg; use a file, rtsp:// or http(s)://"),
)


def _in_words(error: av.error.FFmpegError, timeout_s: float | None, *, opening: bool) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return _no_answer(timeout_s) if opening else f"no data{_within(timeout_s)}; check the camera and the network"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, av.error.InvalidDataError) and opening:
        return "not a video that can be read; check the address, or that the file is complete"
    if error.errno == errno.EIO:
        if opening:
            return "cannot be reached or sends no video; check the address and the network"
        return "the data ended early; check the network"
    return f"{(error.strerror or type(error).__name__).rstrip('. ')}; check the source"


def _no_answer(timeout_s: float | None) -> str:
    return f"no answer{_within(timeout_s)}; check the camera and the network"


def _within(timeout_s: float | None) -> str:
    return "" if timeout_s is None else f" within {timeout_s:g} s"
