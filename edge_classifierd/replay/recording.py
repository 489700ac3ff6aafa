"""Reads a recording (a folder of pictures or a video file) and prepares its pictures in several threads."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.folder import images_in
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.video import InputSettings, Video
from edge_classifierd.motion.gate import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import av

    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.motion.gate import Focus, MotionGate
    from edge_classifierd.preprocess import Preprocessor, Tensor

    Prepare = Callable[[str, float, av.VideoFrame], "RecordedPicture"]

DEFAULT_FPS: Final = 5.0
_AHEAD: Final = 8
_DECODERS: Final = 2


@dataclass(frozen=True, slots=True)
class Recording:
    """A folder or a video. `fps` sets the rate of a folder (default 5) and thins out a video (default: every frame)."""

    path: Path
    fps: float | None = None
    recursive: bool = False

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class RecordedPicture:
    """A picture with its input tensor; None for one that is damaged, or left out because nothing moves."""

    name: str
    at_s: float
    """Seconds since the start of the recording."""
    tensor: Tensor | None
    error: str = ""
    """Why it cannot be decoded, one sentence."""
    gated: bool = False
    """Whether the motion gate leaves it out."""
    fell_asleep: bool = False
    """Whether it is the first picture after the end of motion."""
    focus: Focus | None = None
    """The part that is classified instead of the region."""


class GatedPreparation:
    """Prepares the pictures of a recording that a motion gate lets through; used by one thread, in order."""

    def __init__(self, gate: MotionGate, preprocess: Preprocessor) -> None:
        self._gate = gate
        self._turns = Turns()
        self._preprocess = preprocess

    def __call__(self, name: str, at_s: float, picture: av.VideoFrame) -> RecordedPicture:
        """Return the picture, without a tensor when the gate leaves it out."""
        look = self._gate.look(picture, at_s)
        if not look.classify:
            return RecordedPicture(name, at_s, None, gated=True, fell_asleep=look.fell_asleep)
        focus = self._turns.next(look.things)
        tensor = self._preprocess(picture, None if focus is None else focus.square)
        return RecordedPicture(name, at_s, tensor, fell_asleep=look.fell_asleep, focus=focus)


def recording_of(source: Source, fps: float | None) -> Recording | None:
    """Return a configured source as a recording; None for a live source."""
    if source.type == "folder":
        return Recording(source.path, fps or source.fps, source.recursive)
    if source.type == "stream" and "://" not in source.url:
        from pathlib import Path  # noqa: PLC0415 - needed at run time only here

        return Recording(Path(source.url), fps)
    return None


def play(
    recording: Recording, make_preprocessor: Callable[[], Preprocessor], gate: MotionGate | None = None
) -> Iterator[RecordedPicture]:
    """Yield the pictures in order. Other threads decode and prepare ahead; with a gate, only one.

    Raises:
        UsageError: The path does not exist.
        SourceError: The folder or video cannot be read.
    """
    local = threading.local()

    def prepare_ungated(name: str, at_s: float, picture: av.VideoFrame) -> RecordedPicture:
        if not hasattr(local, "preprocess"):
            local.preprocess = make_preprocessor()
        return RecordedPicture(name, at_s, local.preprocess(picture))

    prepare = prepare_ungated if gate is None else GatedPreparation(gate, make_preprocessor())
    if recording.path.is_dir():
        yield from _play_folder(recording, prepare, decoders=_DECODERS if gate is None else 1)
    elif recording.path.exists():
        yield from _play_video(recording, prepare)
    else:
        raise UsageError(f"{recording.path}: no such folder or video; check the path")


def _play_folder(recording: Recording, prepare: Prepare, *, decoders: int) -> Iterator[RecordedPicture]:
    period_s = 1.0 / (recording.fps or DEFAULT_FPS)
    files = images_in(recording.path, recursive=recording.recursive)
    if not files:
        raise SourceError(f"{recording.path}: contains no pictures; give another folder")

    def prepared(number: int, file: Path) -> RecordedPicture:
        name, at_s = str(file.relative_to(recording.path)), number * period_s
        try:
            return prepare(name, at_s, read_image(file))
        except SourceError as error:
            return RecordedPicture(name, at_s, None, str(error))

    with ThreadPoolExecutor(decoders, "decode") as pool:
        ahead: deque[Future[RecordedPicture]] = deque()
        try:
            for number, file in enumerate(files):
                ahead.append(pool.submit(prepared, number, file))
                if len(ahead) >= _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _play_video(recording: Recording, prepare: Prepare) -> Iterator[RecordedPicture]:
    with ThreadPoolExecutor(1, "decode") as pool:
        # FFmpeg requires that one thread uses the video from opening to closing.
        frames = _VideoFrames(recording, prepare)
        pool.submit(frames.open).result()
        ahead: deque[Future[RecordedPicture | None]] = deque()
        try:
            while True:
                while len(ahead) < _AHEAD:
                    ahead.append(pool.submit(frames.next))
                moment = ahead.popleft().result()
                if moment is None:
                    return
                yield moment
        finally:
            for future in ahead:
                future.cancel()
            pool.submit(frames.close).result()


class _VideoFrames:
    """Reads the frames of a video with their times. Used by one thread."""

    def __init__(self, recording: Recording, prepare: Prepare) -> None:
        self._recording = recording
        self._prepare = prepare
        self._video: Video | None = None
        self._number = 0
        self._first_s: float | None = None
        self._due_s = 0.0

    def open(self) -> None:
        self._video = Video(str(self._recording.path), InputSettings(), shown=str(self._recording.path))

    def next(self) -> RecordedPicture | None:
        assert self._video is not None
        period_s = self._video.period_s or 1 / 25
        while (picture := self._video.read()) is not None:
            time_s = picture.time if picture.time is not None else self._number * period_s
            if self._first_s is None:
                self._first_s = time_s
            at_s = max(0.0, time_s - self._first_s)
            self._number += 1
            # A frame may be half a period early. Otherwise 25 fps could not be thinned out to 5 fps.
            if self._recording.fps is not None and at_s < self._due_s - period_s / 2:
                continue
            self._due_s += 0.0 if self._recording.fps is None else 1.0 / self._recording.fps
            return self._prepare(f"{self._recording.path.name} {at_s:.2f} s", at_s, picture)
        return None

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
