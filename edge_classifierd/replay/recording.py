"""A recording: the pictures of a folder or a video file with the moments they were taken, prepared side by side."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.folder import images_in
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.video import Video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import av

    from edge_classifierd.config.sections.sources import Source
    from edge_classifierd.preprocess import Preprocessor, Tensor

DEFAULT_FPS: Final = 5.0
_AHEAD: Final = 8
_DECODERS: Final = 2


@dataclass(frozen=True, slots=True)
class Recording:
    """Where the pictures are; `fps` spaces those of a folder, and thins out a video. None: 5, and every frame."""

    path: Path
    fps: float | None = None
    recursive: bool = False

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Moment:
    """One picture, ready for the model; `tensor` is None for one that cannot be decoded."""

    name: str
    at_s: float
    """Seconds from the recording's beginning."""
    tensor: Tensor | None
    trouble: str = ""


def recording_of(source: Source, fps: float | None) -> Recording | None:
    """The recording that a configured source is; None for a live one."""
    if source.type == "folder":
        return Recording(source.path, fps or source.fps, source.recursive)
    if source.type == "stream" and "://" not in source.url:
        from pathlib import Path  # noqa: PLC0415 - only here is it more than a type

        return Recording(Path(source.url), fps)
    return None


def play(recording: Recording, make_preprocessor: Callable[[], Preprocessor]) -> Iterator[Moment]:
    """The recording's moments in their order, decoded and prepared ahead in other threads. Raises SourceError."""
    local = threading.local()

    def prepare(picture: av.VideoFrame) -> Tensor:
        if not hasattr(local, "preprocess"):
            local.preprocess = make_preprocessor()
        tensor: Tensor = local.preprocess(picture)
        return tensor

    if recording.path.is_dir():
        yield from _play_folder(recording, prepare)
    elif recording.path.exists():
        yield from _play_video(recording, prepare)
    else:
        raise UsageError(f"{recording.path}: no such folder or video; check the path")


def _play_folder(recording: Recording, prepare: Callable[[av.VideoFrame], Tensor]) -> Iterator[Moment]:
    period_s = 1.0 / (recording.fps or DEFAULT_FPS)
    files = images_in(recording.path, recursive=recording.recursive)
    if not files:
        raise SourceError(f"{recording.path}: holds no pictures; name another folder")

    def moment(number: int, file: Path) -> Moment:
        name, at_s = str(file.relative_to(recording.path)), number * period_s
        try:
            return Moment(name, at_s, prepare(read_image(file)))
        except SourceError as error:
            return Moment(name, at_s, None, str(error))

    with ThreadPoolExecutor(_DECODERS, "decode") as pool:
        ahead: deque[Future[Moment]] = deque()
        try:
            for number, file in enumerate(files):
                ahead.append(pool.submit(moment, number, file))
                if len(ahead) >= _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _play_video(recording: Recording, prepare: Callable[[av.VideoFrame], Tensor]) -> Iterator[Moment]:
    with ThreadPoolExecutor(1, "decode") as pool:
        # All of a video's life is on that one thread: FFmpeg wants it so.
        film = _Film(recording, prepare)
        pool.submit(film.open).result()
        ahead: deque[Future[Moment | None]] = deque()
        try:
            while True:
                while len(ahead) < _AHEAD:
                    ahead.append(pool.submit(film.next))
                moment = ahead.popleft().result()
                if moment is None:
                    return
                yield moment
        finally:
            for future in ahead:
                future.cancel()
            pool.submit(film.close).result()


class _Film:
    """A video's frames at their own times; used by one thread."""

    def __init__(self, recording: Recording, prepare: Callable[[av.VideoFrame], Tensor]) -> None:
        self._recording = recording
        self._prepare = prepare
        self._video: Video | None = None
        self._number = 0
        self._first_s: float | None = None
        self._due_s = 0.0

    def open(self) -> None:
        self._video = Video(str(self._recording.path), shown=str(self._recording.path))

    def next(self) -> Moment | None:
        assert self._video is not None
        period_s = self._video.period_s or 1 / 25
        while (picture := self._video.read()) is not None:
            time_s = picture.time if picture.time is not None else self._number * period_s
            if self._first_s is None:
                self._first_s = time_s
            at_s = max(0.0, time_s - self._first_s)
            self._number += 1
            # Half a frame early is in time, or a video of 25 fps could not be thinned out to 5.
            if self._recording.fps is not None and at_s < self._due_s - period_s / 2:
                continue
            self._due_s += 0.0 if self._recording.fps is None else 1.0 / self._recording.fps
            return Moment(f"{self._recording.path.name} {at_s:.2f} s", at_s, self._prepare(picture))
        return None

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
