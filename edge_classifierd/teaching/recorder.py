"""Records pictures for a class from a camera while somebody holds a button."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import EdgeClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.observation.tap import FrameTap
    from edge_classifierd.preprocess import View
    from edge_classifierd.teaching.store import TeachingStore

MOST_KEPT: Final = 100
LONGEST_S: Final = 60.0
SILENT_AFTER_S: Final = 2.0
"""A recording ends when its client has given no sign of life for this long."""
_PICTURE_EVERY_S: Final = 0.2
_TOLERANCE_S: Final = 0.02
"""For cameras whose frames are not quite regular."""
_MOST_REMEMBERED: Final = 8


class RecordingRunsError(EdgeClassifierError):
    """Another recording runs."""


@dataclass(frozen=True, slots=True)
class RecordingState:
    """A recording at one moment."""

    id: str
    model: str
    class_id: str
    pipeline: str
    kept: int = 0
    similar: int = 0
    """Number of pictures that were too similar to one of the class."""
    newest: str | None = None
    """The picture that was kept last."""
    step: int | None = None
    """The step whose undoing removes the pictures of the recording."""
    ends_in_s: float = LONGEST_S
    """Seconds until it ends although the button is held; 0 when it has ended."""
    ended: str | None = None
    """Why it has ended: `released`, `silent`, `full`, `time`, or the sentence of a failure; None while it runs."""


class _Slot:
    """The newest frame of the camera."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None

    def put(self, frame: Frame) -> None:
        """Replace the frame; called in the camera's thread."""
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def take(self, timeout_s: float) -> Frame | None:
        """Return the frame and empty the slot; None when there is none after `timeout_s` or `wake`."""
        with self._changed:
            if self._frame is None:
                self._changed.wait(timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def wake(self) -> None:
        """Let `take` return."""
        with self._changed:
            self._changed.notify()


class Recorder:
    """Runs one recording at a time, in a thread of its own. Thread-safe."""

    def __init__(
        self,
        store: TeachingStore,
        tap: FrameTap,
        clock: Clock,
        on_change: Callable[[RecordingState], None] = lambda _state: None,
    ) -> None:
        """`on_change` is called after each picture and at the end, in the recording's thread."""
        self._store = store
        self._tap = tap
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()  # protects what follows
        self._states: OrderedDict[str, RecordingState] = OrderedDict()
        self._running: str | None = None
        self._thread: threading.Thread | None = None
        self._slot = _Slot()
        self._held_s = self._ends_s = 0.0

    def begin(self, model: str, class_id: str, pipeline: str, view: View) -> RecordingState:
        """Begin to record.

        Args:
            model: The taught model.
            class_id: The class that is shown.
            pipeline: The pipeline whose camera is recorded.
            view: How the camera's frames are turned and cut.

        Raises:
            RecordingRunsError: Another recording runs.
            EdgeClassifierError: There is no such class, or the store is full.
            RuntimeError: The system has no more threads.
        """
        with self._lock:
            if self._running is not None:
                raise RecordingRunsError("a recording runs already; end it first")
            recording = self._store.begin_recording(model, class_id, pipeline)
            state = RecordingState(recording, model, class_id, pipeline)
            self._slot = slot = _Slot()
            self._held_s = self._clock.monotonic()
            self._ends_s = self._held_s + LONGEST_S
            thread = threading.Thread(target=self._run, args=(state, view, slot), name="recording", daemon=True)
            thread.start()
            self._thread, self._running = thread, recording
            self._states.pop(recording, None)
            self._states[recording] = state
            while len(self._states) > _MOST_REMEMBERED:
                self._states.popitem(last=False)
            return state

    def held(self, recording: str) -> RecordingState | None:
        """Note that the button is still held; return the state, None when there is no such recording."""
        with self._lock:
            if recording == self._running:
                self._held_s = self._clock.monotonic()
            state = self._states.get(recording)
            return None if state is None else self._timed(state)

    def end(self, recording: str) -> RecordingState | None:
        """End a recording; waits for the picture that is being stored. None when there is no such recording."""
        with self._lock:
            thread = self._thread if recording == self._running else None
            if thread is not None:
                self._running = None
                self._slot.wake()
        if thread is not None:
            thread.join()
        with self._lock:
            return self._states.get(recording)

    def stop(self, timeout_s: float) -> None:
        """End the recording that runs."""
        with self._lock:
            thread, self._running = self._thread, None
            self._slot.wake()
        if thread is not None:
            thread.join(timeout_s)

    def _run(self, state: RecordingState, view: View, slot: _Slot) -> None:
        """Store pictures until the recording ends; runs in the recording's thread."""
        failure = ""
        try:
            with self._tap.subscribe(state.pipeline, slot.put):
                due_s = self._clock.monotonic()
                while self._reason(state) is None:
                    frame = slot.take(_PICTURE_EVERY_S)
                    if frame is None or frame.captured_s < due_s:
                        continue
                    due_s = frame.captured_s + _PICTURE_EVERY_S - _TOLERANCE_S
                    state = self._add(state, view, frame)
        except EdgeClassifierError as error:
            failure = str(error)
        finally:
            self._finish(state, failure)

    def _add(self, state: RecordingState, view: View, frame: Frame) -> RecordingState:
        added = self._store.add_picture(
            state.model,
            class_id=state.class_id,
            picture=frame.picture,
            view=view,
            recording=state.id,
            source="camera",
            captured=frame.captured_at,
        )
        if added.kept:
            changed = replace(state, kept=state.kept + 1, newest=added.id, step=added.step)
        else:
            changed = replace(state, similar=state.similar + 1)
        with self._lock:
            self._states[state.id] = changed
            timed = self._timed(changed)
        self._on_change(timed)
        return changed

    def _finish(self, state: RecordingState, failure: str) -> None:
        with self._lock:
            reason = failure or self._reason_locked(state) or "failed"
            ended = replace(state, ended=reason, ends_in_s=0.0)
            self._states[state.id] = ended
            if self._running == state.id:
                self._running = None
        with contextlib.suppress(EdgeClassifierError):  # a disk that failed; the recording ends by its age
            self._store.end_recording(state.id)
        self._on_change(ended)

    def _reason(self, state: RecordingState) -> str | None:
        with self._lock:
            return self._reason_locked(state)

    def _reason_locked(self, state: RecordingState) -> str | None:
        """Return why a recording ends now; None when it goes on."""
        now_s = self._clock.monotonic()
        if self._running != state.id:
            return "released"
        if state.kept >= MOST_KEPT:
            return "full"
        if now_s >= self._ends_s:
            return "time"
        return "silent" if now_s - self._held_s >= SILENT_AFTER_S else None

    def _timed(self, state: RecordingState) -> RecordingState:
        if state.ended is not None:
            return state
        return replace(state, ends_in_s=max(0.0, self._ends_s - self._clock.monotonic()))
