"""A camera with a kernel driver (Video4Linux) as a frame source.

The device is opened non-blocking and polled, because a blocking read in the kernel could not be interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from math import inf
from typing import TYPE_CHECKING

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.video import InputSettings, Video

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

_NON_BLOCKING = "4"  # AVFMT_FLAG_NONBLOCK, which has no name among FFmpeg's options
_POLL_S = 0.004


class V4l2Source:
    """A USB camera or capture stick. Nothing is opened before `open`."""

    def __init__(
        self,
        device: Path,
        *,
        width: int,
        height: int,
        fps: float | None = None,
        input_format: str | None = None,
        stall_timeout_s: float,
        clock: Clock,
    ) -> None:
        self._device = device
        self._size = (width, height)
        self._fps = fps
        self._input_format = input_format
        self._stall_timeout_s = stall_timeout_s
        self._clock = clock
        self._cancelled = threading.Event()
        self._video: Video | None = None
        self._reading_since_s = 0.0
        self._first_poll = True
        self._size_logged = False
        self._skipped_before = 0
        self._sequence = 0

    @property
    def live(self) -> bool:
        """True."""
        return True

    @property
    def skipped(self) -> int:
        """Number of damaged pictures."""
        return self._skipped_before + (0 if self._video is None else self._video.skipped)

    @property
    def pauses_until_s(self) -> float:
        """Minus infinity: it waits for the camera only."""
        return -inf

    def open(self) -> None:
        """Open the device and set size, rate and format. Raises SourceError with the remedy."""
        self._check_device()
        width, height = self._size
        options = {"video_size": f"{width}x{height}", "fflags": f"+nobuffer+{_NON_BLOCKING}"}
        if self._fps is not None:
            options["framerate"] = f"{self._fps:g}"
        if self._input_format is not None:
            options["input_format"] = self._input_format
        self._video = Video(
            str(self._device),
            InputSettings(
                format_name="v4l2",
                options=options,
                timeout_s=self._stall_timeout_s,
                live=True,
                copy_packets=True,  # raw pictures are in the kernel's buffers, which closing unmaps
                words=_WORDS | {errno.EINVAL: f"does not offer {self._wanted()}; see `v4l2-ctl --list-formats-ext`"},
            ),
            shown=str(self._device),
            on_idle=self._idle,
        )
        if self._video.size != self._size and not self._size_logged:
            self._size_logged = True
            _log.warning(
                "%s: delivers %dx%d instead of %dx%d; see `v4l2-ctl --list-formats-ext`",
                self._device, *self._video.size, width, height,
            )  # fmt: skip

    def read(self) -> Frame:
        """Return the next frame. Raises SourceError when the camera is gone or silent for the stall timeout."""
        if self._video is None:
            raise SourceError(f"{self._device}: not open")
        self._reading_since_s = self._clock.monotonic()
        self._first_poll = True
        picture = self._video.read()
        if picture is None or self._cancelled.is_set():
            raise SourceError(f"{self._device}: delivers no more; check its cable and power")
        frame = Frame(picture, self._sequence, self._clock.monotonic(), self._clock.utc())
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Release the device."""
        if self._video is not None:
            self._skipped_before += self._video.skipped
            self._video.close()
            self._video = None
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a blocked `read`."""
        self._cancelled.set()

    def _idle(self) -> None:
        """Wait for the next picture: first half a frame's period, then in small steps."""
        if self._clock.monotonic() - self._reading_since_s > self._stall_timeout_s:
            raise SourceError(
                f"{self._device}: no picture for {self._stall_timeout_s:g} s; check its cable, power and rate"
            )
        if self._cancelled.wait(0.5 / (self._fps or 30.0) if self._first_poll else _POLL_S):
            raise SourceError(f"{self._device}: reading was cancelled")
        self._first_poll = False

    def _wanted(self) -> str:
        rate = "" if self._fps is None else f" at {self._fps:g} fps"
        return f"{self._size[0]}x{self._size[1]}{rate}" + (f" as {self._input_format}" if self._input_format else "")

    def _check_device(self) -> None:
        """Raise SourceError with the kernel's reason; FFmpeg has one error number for many causes."""
        try:
            found = self._device.stat()
            if not stat.S_ISCHR(found.st_mode):
                raise SourceError(f"{self._device}: not a video device; see `v4l2-ctl --list-devices`")
            os.close(os.open(self._device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            words = _WORDS.get(error.errno or 0) or f"{error.strerror}; see `v4l2-ctl --list-devices`"
            raise SourceError(f"{self._device}: {words}") from error


_NO_DEVICE = "no such device; connect the camera, or see `v4l2-ctl --list-devices` for others"
_WORDS = {
    errno.ENOENT: _NO_DEVICE,
    errno.ENOTDIR: _NO_DEVICE,
    errno.ENODEV: _NO_DEVICE,
    errno.ENXIO: _NO_DEVICE,
    errno.EACCES: 'permission denied; add the service user to the group "video"',
    errno.EPERM: 'permission denied; add the service user to the group "video"',
    errno.EBUSY: "in use by another program; stop that, or see who with `fuser -v`",
    errno.ENOTTY: "not a video capture device; see `v4l2-ctl --list-devices`",
    errno.EIO: "reading failed; check its cable and power",
}
