"""A video file as a frame source."""

from __future__ import annotations

import stat
import threading
from typing import TYPE_CHECKING

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.base import Frame
from edge_classifierd.frames.pacing import OwnPace, Pause
from edge_classifierd.frames.video import InputSettings, Video

if TYPE_CHECKING:
    from pathlib import Path

    import av

    from edge_classifierd.clock import Clock


class VideoFileSource:
    """A video file, at its own pace (then it is live: a slow reader skips frames) or as fast as it is read."""

    def __init__(self, path: Path, *, paced: bool, loop: bool, clock: Clock) -> None:
        self._path = path
        self._paced = paced
        self._loop = loop
        self._clock = clock
        self._cancelled = threading.Event()
        self._pace = OwnPace()
        self._pause = Pause(clock, self._cancelled)
        self._video: Video | None = None
        self._skipped_before = 0
        self._read_in_pass = 0
        self._sequence = 0

    @property
    def live(self) -> bool:
        """True when paced."""
        return self._paced

    @property
    def skipped(self) -> int:
        """Number of damaged packets and frames, over all passes."""
        return self._skipped_before + (0 if self._video is None else self._video.skipped)

    @property
    def pauses_until_s(self) -> float:
        """Until when `read` waits for the next frame's time, or last waited."""
        return self._pause.until_s

    def open(self) -> None:
        """Open the file at its beginning. Raises SourceError."""
        self._close_video()
        check_video_file(self._path)
        self._video = Video(
            str(self._path),
            InputSettings(quiet=self._skipped_before > 0),
            shown=str(self._path),
            wanted=lambda: not self._cancelled.is_set(),
        )
        self._read_in_pass = 0
        self._pace.restart()

    def read(self) -> Frame | None:
        """Return the next frame at its time; None at the end of a file that is not looped."""
        picture = self._next_picture()
        if picture is None:
            return None
        if self._paced and self._video is not None:
            now_s = self._clock.monotonic()
            self._pause.wait(self._pace.delay_s(now_s, _time_s(picture), self._video.period_s))
        if self._cancelled.is_set():
            raise SourceError(f"{self._path}: reading was cancelled")
        frame = Frame(picture, self._sequence, self._clock.monotonic(), self._clock.utc(), self._path.name)
        self._sequence += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        self._close_video()
        self._cancelled.clear()

    def cancel(self) -> None:
        """End a wait for the next frame's time."""
        self._cancelled.set()

    def _next_picture(self) -> av.VideoFrame | None:
        while True:
            if self._video is None:
                raise SourceError(f"{self._path}: not open")
            picture = self._video.read()
            if picture is not None:
                self._read_in_pass += 1
                return picture
            if self._cancelled.is_set():
                raise SourceError(f"{self._path}: reading was cancelled")
            if not self._read_in_pass:
                raise SourceError(f"{self._path}: none of its frames can be decoded; check that the file is complete")
            if not self._loop:
                return None
            self.open()

    def _close_video(self) -> None:
        if self._video is not None:
            self._skipped_before += self._video.skipped
            self._video.close()
            self._video = None


def check_video_file(path: Path) -> None:
    """Raise SourceError when the path is not a regular file, which opening would fail on or wait for (a pipe)."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check the permissions of its folders") from error
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path}: a folder, not a video; for pictures use `type: folder`")
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: not a regular file; a camera of the system is `type: v4l2`")


def _time_s(picture: av.VideoFrame) -> float | None:
    return None if picture.pts is None or picture.time_base is None else float(picture.pts * picture.time_base)
