"""One open FFmpeg input: decodes its video stream frame by frame and explains its failures."""

from __future__ import annotations

import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.damage import Damage
from edge_classifierd.frames.h264 import FrameNumbers
from edge_classifierd.frames.sound_frames import SoundFrames
from edge_classifierd.frames.video_errors import RefusedStreamError, in_words, no_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MOST_PIXELS: Final = 14_000_000
"""Pixels of the largest frame that is decoded, padding included: a camera of 12 megapixels."""
_STRICTNESS: Final = {
    # These report damage only so; others mark the frames that they repaired.
    "hevc": {"err_detect": "explode"},
    "mjpeg": {"err_detect": "explode"},
    # Without CABAC, a slice must end where its data ends.
    "h264": {"err_detect": "aggressive"},
}


@dataclass(frozen=True, slots=True)
class InputSettings:
    """How FFmpeg opens and decodes an input."""

    format_name: str | None = None
    """FFmpeg's name of the format; None: found out."""
    options: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's options of the input."""
    timeout_s: float | None = None
    live: bool = False
    """A camera: decode without delay, and nothing before the first packet of a key frame."""
    copy_packets: bool = False
    """Decode copies of the packets, because closing the input unmaps theirs."""
    quiet: bool = False
    """Log no damage."""
    words: Mapping[int, str] = field(default_factory=dict)
    """What an error number means for this input."""


class Video:
    """An open input; used and closed by one thread, because FFmpeg crashes otherwise.

    Frames own their memory. Frames before the first key frame, and frames that are damaged or depend on a damaged or
    missing one, are skipped until the next sound key frame.
    """

    def __init__(
        self,
        address: str,
        settings: InputSettings,
        *,
        shown: str,
        on_idle: Callable[[], None] | None = None,
        on_skip: Callable[[], None] | None = None,
        wanted: Callable[[], bool] | None = None,
        damage: Damage | None = None,
    ) -> None:
        """Open an input; blocks for at most about `timeout_s`.

        Args:
            address: A file, a device or an address.
            settings: How to open it.
            shown: Names the input in messages, without secrets.
            on_idle: For inputs opened non-blocking: called whenever there is no packet yet; waits a little, may raise.
            on_skip: Called for each packet whose frame is skipped while the first key frame is awaited; may raise.
            damage: Counts what is skipped, over several inputs of one source.
            wanted: Called before every packet, also of sound: when it returns False, `read` returns None.

        Raises:
            SourceError: The input cannot be opened or has no video.
        """
        self._shown = shown
        self._settings = settings
        self._on_idle = on_idle
        self._on_skip = on_skip
        self._wanted = wanted
        self._damage = damage or Damage(shown, quiet=settings.quiet)
        self._ready: deque[av.VideoFrame] = deque()
        self._mirrored: bool | None = None  # as its first frame is
        self._last_s = 0.0
        self._container = self._open(address)
        try:
            self._stream = self._video_stream()
        except SourceError:
            self._container.close()
            raise
        context = self._stream.codec_context
        name = context.codec.name
        # Frame threads delay frames. FFmpeg's H.264 decoder reports damage only when it uses no slice threads.
        undelayed = settings.live or name == "hevc" or self._container.format.name == "h264"
        self._stream.thread_type = "SLICE" if undelayed else "AUTO"
        if undelayed and name == "h264":
            context.thread_count = 1
        self._numbers = FrameNumbers(context.extradata) if name == "h264" else None
        self._awaits_first = settings.live and not context.codec.intra_only
        self._sound = SoundFrames(self._damage, context.codec)
        self._packets_read = 0
        self._has_timestamps = True
        self._scaler = VideoReformatter()
        self._target: tuple[tuple[int, int], tuple[int, int]] | None = None
        announced = self._stream.sample_aspect_ratio
        # As FFmpeg's players do, the container's ratio is preferred to the one in the coded video, which may change.
        self._ratio = announced if announced != context.sample_aspect_ratio else None
        # Packets of every stream, not of ours alone: where sound goes on without pictures PyAV would never come back.
        self._packets: Iterator[Packet[Any]] = self._container.demux()

    def _open(self, address: str) -> InputContainer:
        begun_s, timeout_s = time.monotonic(), self._settings.timeout_s
        try:
            return av.open(
                address,
                "r",
                format=self._settings.format_name,
                # The decoders that FFmpeg uses to find out the format must not take more memory than ours.
                options={"max_pixels": str(MOST_PIXELS)},
                container_options=dict(self._settings.options),
                timeout=timeout_s,
                metadata_errors="replace",
            )
        except av.error.FFmpegError as error:
            # Not `from error`: its own text holds the address, secrets included.
            if timeout_s is not None and time.monotonic() - begun_s >= timeout_s:
                raise SourceError(f"{self._shown}: {no_answer(timeout_s)}") from None  # RTSP calls it invalid data
            raise self._failure(error, opening=True) from None
        except ValueError as error:
            raise SourceError(f"{self._shown}: cannot be opened; check the address") from error

    def _video_stream(self) -> VideoStream:
        if not self._container.streams.video:
            raise SourceError(f"{self._shown}: carries no video; check the address")
        stream = self._container.streams.video[0]
        context: object = stream.codec_context
        if context is None:
            raise SourceError(f"{self._shown}: its video codec is unknown to FFmpeg; choose H.264 or MJPEG")
        strictness = _STRICTNESS.get(stream.codec_context.codec.name, {})
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS), **strictness}
        return stream

    @property
    def skipped(self) -> int:
        """Damaged packets, and frames that depend on them, so far."""
        return self._damage.skipped

    @property
    def period_s(self) -> float | None:
        """Seconds between two frames, when the input announces it."""
        rate = self._stream.average_rate
        return float(1 / rate) if rate else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the input announces; 0 when it does not."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def read(self) -> av.VideoFrame | None:
        """Return the next good frame; None at the end.

        Raises:
            SourceError: The input fails, or nothing of it can be decoded.
        """
        while not self._ready:
            packet = self._next_packet()
            if packet is None:
                self._ready.extend(self._sound.rest())
                break
            if self._wait_for_first_key(packet):
                continue
            self._decode(packet)
        if not self._ready:
            return None
        self._damage.good()
        picture = self._ready.popleft()
        if not self._has_timestamps:
            picture.pts = None
        self._last_s = picture.time or 0.0
        if self._mirrored is None:
            self._mirrored = _is_mirrored(picture)
        picture = self._with_square_pixels(picture)
        if self._mirrored:
            flip_vertically(picture)
        return picture

    def close(self) -> None:
        """Close the input; safe to call twice."""
        self._ready.clear()
        self._packets = iter(())
        self._container.close()

    def _wait_for_first_key(self, packet: Packet[Any]) -> bool:
        """Return whether the packet is skipped because it comes before the first key frame."""
        if not self._awaits_first or not packet.size or packet.is_corrupt:
            return False
        if packet.is_keyframe or self._sound.awaited_enough:
            self._awaits_first = False
            return False
        self._sound.skip()
        if self._on_skip is not None:
            self._on_skip()
        return True

    def _decode(self, packet: Packet[Any]) -> None:
        if packet.size:
            self._number(packet)
            if packet.is_corrupt:
                self._sound.damaged("a damaged packet")
                return
            if self._numbers is not None and self._numbers.missing_before(bytes(packet)):
                self._sound.damaged("frames after a missing one")
        frames = self._decoded(packet)
        for frame in frames:
            self._ready.extend(self._sound.add(frame))
        if frames and self._sound.awaits_first and self._on_skip is not None:
            self._on_skip()

    def _decoded(self, packet: Packet[Any]) -> list[av.VideoFrame]:
        try:
            return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except av.error.EOFError:  # read again after its end
            return []
        except av.error.InvalidDataError:
            self._sound.damaged("data that cannot be decoded")
            return []
        except av.error.FFmpegError as error:
            width, height = self.size
            if width * height > MOST_PIXELS or isinstance(error, av.error.ArgumentError):
                raise SourceError(
                    f"{self._shown}: its pictures cannot be decoded; at most {MOST_PIXELS / 1e6:.0f} megapixels are "
                    "supported: set the camera to a smaller picture"
                ) from None
            raise self._failure(error, opening=False) from None

    def _number(self, packet: Packet[Any]) -> None:
        """Record the timestamp of a packet; one without (raw H.264) is given its number, to recognise its frame."""
        self._packets_read += 1
        if packet.pts is None:
            self._has_timestamps = False
            packet.pts = packet.dts = self._packets_read
        self._sound.send(packet.pts, key=packet.is_keyframe)

    def _next_packet(self) -> Packet[Any] | None:
        """Return the next packet of the video; None at the end, or when no more is wanted."""
        while self._wanted is None or self._wanted():
            try:
                packet = next(self._packets, None)
            except av.error.BlockingIOError as error:
                if self._on_idle is None:
                    raise self._failure(error, opening=False) from None
                self._on_idle()
            except av.error.InvalidDataError:
                self._sound.missing("data that cannot be read")
            except av.error.FFmpegError as error:
                raise self._failure(error, opening=False) from None
            else:
                if not self._settings.live:
                    self._damage.progress()  # the end of a file comes in any case
                if packet is None:
                    self._look_for_a_missing_end()
                    return None
                if packet.stream_index == self._stream.index:
                    return self._copied(packet) if self._settings.copy_packets and packet.size else packet
                continue
            self._packets = self._container.demux()  # an error ended the old iterator
        return None

    def _look_for_a_missing_end(self) -> None:
        """Count the missing end of a Matroska file, which FFmpeg does not report; its header has the duration."""
        container = self._container
        if self.skipped or container.duration is None or not container.format.name.startswith("matroska"):
            return
        if container.duration / 1e6 - self._last_s > max(1.0, 3 * (self.period_s or 0.0)):
            self._damage.skip(f"the end after {self._last_s:.1f} of {container.duration / 1e6:.1f} s, which is missing")

    def _copied(self, packet: Packet[Any]) -> Packet[Any]:
        copy: Packet[Any] = av.Packet(bytes(packet))
        copy.stream = self._stream
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        copy.is_corrupt, copy.is_keyframe = packet.is_corrupt, packet.is_keyframe
        return copy

    def _with_square_pixels(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Scale the picture where its pixels are not square, so that it has the proportions of the scene."""
        size = (picture.width, picture.height)
        if self._target is None or self._target[0] != size:
            self._target = size, self._square_size(picture)
        target = self._target[1]
        if target == size:
            return picture
        return self._scaler.reformat(picture, *target, interpolation=Interpolation.BILINEAR, threads=1)

    def _square_size(self, picture: av.VideoFrame) -> tuple[int, int]:
        width, height = picture.width, picture.height
        ratio = float(self._ratio or self._stream.codec_context.sample_aspect_ratio or 1)
        if not 0.2 <= ratio <= 5 or abs(ratio - 1) < 0.01:
            return width, height
        target = (round(width * ratio / 2) * 2, height) if ratio > 1 else (width, round(height / ratio / 2) * 2)
        return target if target[0] * target[1] <= MOST_PIXELS else (width, height)

    def _failure(self, error: av.error.FFmpegError, *, opening: bool) -> SourceError:
        words = self._settings.words.get(error.errno or 0) or in_words(error, self._settings.timeout_s, opening=opening)
        text = f"{self._shown}: {words}"
        if isinstance(error, av.error.HTTPClientError | av.error.HTTPServerError):  # of RTSP, too
            return RefusedStreamError(text, unauthorised=isinstance(error, av.error.HTTPUnauthorizedError))
        return SourceError(text)


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
