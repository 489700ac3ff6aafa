"""Live pictures: one thread encodes the newest frames for all who wait, within a share of one core."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.web.live.results import frame_number

if TYPE_CHECKING:
    from datetime import datetime

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.observation.tap import FrameTap
    from edge_classifierd.preprocess import View

_log = logging.getLogger(__name__)

SHARE: Final = 0.05
"""Share of one core that encoding may take, for all pipelines and sizes together."""
_IDLE_S: Final = 30.0
_QUALITY: Final = 75
_MOST_KINDS: Final = 16


@dataclass(frozen=True, slots=True)
class PreviewKind:
    """What is to be encoded. Those who ask for the same get the same bytes."""

    pipeline: str
    max_width: int
    view: View
    every_s: float = 0.1
    """Seconds from one encoding to the next; meanwhile those who ask get the same picture again."""


@dataclass(frozen=True, slots=True)
class Preview:
    """An encoded frame."""

    number: int
    captured_at: datetime
    jpeg: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _PreviewWaiter:
    kind: PreviewKind
    after: int
    answer: asyncio.Future[Preview | None]


_Answers = list[tuple[_PreviewWaiter, Preview | None]]


class Previews:
    """Encodes previews. The thread is started by the first call of `next` and ends 30 s after the last.

    While nobody waits, frames of the cameras in use are held but nothing is encoded.
    """

    def __init__(self, tap: FrameTap) -> None:
        self._tap = tap
        self._changed = threading.Condition()  # protects all that follows
        self._waiters: list[_PreviewWaiter] = []
        self._frames: dict[str, Frame | None] = {}
        self._encoded: dict[PreviewKind, tuple[Preview, float]] = {}
        self._any_due_s = -inf
        self._used_s = -inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscriptions = ExitStack()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.counts: dict[str, int] = {}
        """Number of encoded previews by pipeline."""
        self.encoding_s = 0.0
        """CPU time that encoding took, in seconds."""

    async def next(self, kind: PreviewKind, *, after: int, timeout_s: float) -> Preview | None:
        """Return the newest frame if its number is not `after`, else the next one; None when none came in time."""
        self._loop = loop = asyncio.get_running_loop()
        with self._changed:
            if self._stopped:
                return None
            self._used_s = time.monotonic()
            preview, due_in_s = self._ready(kind, after, self._used_s)
            if preview is not None:
                return preview
            if kind.pipeline not in self._frames:
                self._frames[kind.pipeline] = None
                subscription = self._tap.subscribe(kind.pipeline, partial(self._receive, kind.pipeline))
                self._subscriptions.enter_context(subscription)
            waiter = _PreviewWaiter(kind, after, loop.create_future())
            self._waiters.append(waiter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="page preview", daemon=True)
                self._thread.start()
            if due_in_s < inf:  # else the next frame wakes the thread
                self._changed.notify()
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter.answer
        except TimeoutError:
            return None
        finally:
            with self._changed:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    async def frame(self, pipeline: str, *, timeout_s: float) -> Frame | None:
        """Return the next frame of a pipeline's camera, not encoded; None when none came in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Frame] = loop.create_future()

        def receive(frame: Frame) -> None:
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(frame))

        with self._tap.subscribe(pipeline, receive):
            try:
                return await asyncio.wait_for(answer, timeout_s)
            except TimeoutError:
                return None

    def stop(self) -> None:
        """Answer all who wait with None and end the thread."""
        with self._changed:
            self._stopped = True
            self._answer([(waiter, None) for waiter in self._waiters])
            self._changed.notify()

    def _receive(self, pipeline: str, frame: Frame) -> None:
        """Hold the newest frame of a pipeline. Called in the camera's thread."""
        with self._changed:
            if pipeline in self._frames:
                self._frames[pipeline] = frame
                if self._waiters:
                    self._changed.notify()

    def _ready(self, kind: PreviewKind, after: int, now_s: float) -> tuple[Preview | None, float]:
        """Return the preview for one who has `after`, or in how many seconds one is to be encoded. Lock held."""
        frame = self._frames.get(kind.pipeline)
        if frame is None:
            return None, inf
        newest = frame_number(frame.captured_s)
        preview, due_s = self._encoded.get(kind, (None, -inf))
        due_s = max(due_s, self._any_due_s)
        if preview is not None and preview.number != after and (due_s > now_s or preview.number == newest):
            return preview, 0.0
        return None, inf if newest == after else max(0.0, due_s - now_s)

    def _answer(self, answers: _Answers) -> None:
        """Give these waiters their previews: one call to the loop for all of them. Lock held."""
        if answers and self._loop is not None:
            for waiter, _ in answers:
                self._waiters.remove(waiter)
            self._loop.call_soon_threadsafe(_set_answers, answers)

    # The methods below run in the encoding thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._waiters:
                    self._used_s = time.monotonic()
                idle_s = time.monotonic() - self._used_s
                if self._stopped or idle_s >= _IDLE_S:
                    self._subscriptions.close()
                    self._frames, self._encoded, self._thread = {}, {}, None
                    return
                due, wait_s = self._due()
                if due is None:
                    self._changed.wait(min(wait_s, _IDLE_S - idle_s))
                    continue
                kind, frame = due
            self._encode(kind, frame)

    def _due(self) -> tuple[tuple[PreviewKind, Frame] | None, float]:
        """Answer those for whom there is a preview; return what to encode next, or how long to wait. Lock held."""
        now_s, wait_s = time.monotonic(), inf
        answers: _Answers = []
        due = None
        for waiter in self._waiters:
            preview, due_in_s = self._ready(waiter.kind, waiter.after, now_s)
            if preview is not None:
                answers.append((waiter, preview))
            elif due is None and due_in_s <= 0 and (frame := self._frames.get(waiter.kind.pipeline)) is not None:
                due = waiter.kind, frame
            else:
                wait_s = min(wait_s, due_in_s)
        self._answer(answers)
        return due, wait_s

    def _encode(self, kind: PreviewKind, frame: Frame) -> None:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        try:
            jpeg = encode_jpeg(frame.picture, kind.view, max_width=kind.max_width, quality=_QUALITY)
        except (EdgeClassifierError, ValueError) as error:
            _log.warning("%s: the picture cannot be encoded for the page: %s", kind.pipeline, error)
            jpeg = b""
        took_s = time.thread_time() - cpu_s
        preview = Preview(frame_number(frame.captured_s), frame.captured_at, jpeg)
        with self._changed:
            self.counts[kind.pipeline] = self.counts.get(kind.pipeline, 0) + 1
            self.encoding_s += took_s
            self._any_due_s = time.monotonic() + took_s / SHARE - took_s
            if len(self._encoded) >= _MOST_KINDS and kind not in self._encoded:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[kind] = (preview, began_s + kind.every_s)


def _set_answers(answers: _Answers) -> None:
    for waiter, preview in answers:
        if not waiter.answer.done():
            waiter.answer.set_result(preview)
