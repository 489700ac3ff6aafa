"""The frames of a camera for one pipeline: prepared, thinned out to its rate, the newest first."""

from __future__ import annotations

import logging
import threading
from math import inf
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.frames.camera import CaptureStatus
from edge_classifierd.frames.latest_slot import LatestSlot
from edge_classifierd.frames.pacing import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame, FrameGate
    from edge_classifierd.frames.camera import Camera
    from edge_classifierd.health.metrics import Reason

T = TypeVar("T")
_log = logging.getLogger(__name__)

_STALL_CHECK_S: Final = 1.0
_WARNING_INTERVAL_S: Final = 60.0
"""Minimum time between two warnings about frames that cannot be prepared."""


class Captured(NamedTuple, Generic[T]):
    """A frame and the result of `prepare` for it (the input tensor)."""

    frame: Frame
    prepared: T


class Capture(Generic[T]):
    """Receives the frames of a camera that other pipelines may use too, and holds the newest until it is taken."""

    def __init__(
        self,
        camera: Camera,
        prepare: Callable[[Frame], T],
        *,
        name: str,
        prepare_when_taken: bool = False,
        max_fps: float | None = None,
        gate: FrameGate | None = None,
        on_status: Callable[[CaptureStatus, str], None] | None = None,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> None:
        """Prepare a capture; `Camera.attach` adds it to the camera.

        Args:
            camera: The camera.
            prepare: Called with each frame in the camera's thread.
            name: The pipeline's name, for log messages.
            prepare_when_taken: Call `prepare` in the thread that takes the frame instead, so that a pipeline neither
                delays the camera's other pipelines nor prepares frames that are replaced.
            max_fps: Maximum number of frames per second; None: every frame of the camera.
            gate: Chooses the frames that are offered, which are then prepared when they are taken.
            on_status: Called at each change of the status with the reason (or ""), in the camera's thread or in the
                one that attaches or stops.
            on_frame: Called with every frame of the camera, in its thread, before `max_fps` applies.
        """
        self._camera = camera
        self._prepare = prepare
        self._gate = gate
        self._prepare_when_taken = prepare_when_taken
        self._name = name
        self._rate = None if max_fps is None else RateLimit(max_fps)
        self._on_status = on_status
        self._on_frame = on_frame
        self._slot: LatestSlot[Captured[T] | Frame] = LatestSlot()
        self._bug: BaseException | None = None
        self._on_ready: Callable[[], None] | None = None

        self._status_lock = threading.Lock()  # held during `on_status`, so that the calls have the right order
        self._status = CaptureStatus.STARTING
        self._last_error = ""
        self._delivered = 0
        self._dropped = 0
        self._unprepared = 0
        self._skipped_before = camera.source.skipped
        self._skip_lock = threading.Lock()  # protects the counter of `skip` and the time of its next warning
        self._next_warning_s = -inf

    @property
    def camera(self) -> Camera:
        """The camera."""
        return self._camera

    @property
    def status(self) -> CaptureStatus:
        """The present state."""
        return self._status

    @property
    def last_error(self) -> str:
        """The reason of the latest failure, one sentence; empty when there was none."""
        return self._last_error

    @property
    def delivered(self) -> int:
        """Number of frames that were offered."""
        return self._delivered

    @property
    def dropped(self) -> int:
        """Number of frames that a newer one replaced before they were taken."""
        return self._dropped

    @property
    def skipped(self) -> int:
        """Number of pictures that could not be decoded or prepared."""
        return self._camera.source.skipped - self._skipped_before + self._unprepared

    @property
    def ready(self) -> bool:
        """Whether `take` has something to return at once: a frame, or the end of the source or a bug."""
        return self._slot.ready

    @property
    def finished(self) -> bool:
        """Whether the source has ended or was stopped and its last frame was taken; False after a bug."""
        return self._slot.ended and self._slot.empty and self._bug is None

    @property
    def picture_problem(self) -> Reason | None:
        """See `Camera.picture_problem`."""
        return self._camera.picture_problem

    @property
    def last_beat_s(self) -> float:
        """See `Camera.last_beat_s`."""
        return self._camera.last_beat_s

    def start(self) -> None:
        """Start the camera if this is its first capture."""
        self._camera.start()

    def notify(self, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` whenever `ready` becomes true or a frame is replaced, in any thread; also once now."""
        self._on_ready = on_ready
        on_ready()

    def check_stall(self) -> None:
        """Cancel a read of a live source that takes longer than its stall timeout; any thread."""
        self._camera.check_stall()

    def set_max_fps(self, max_fps: float | None) -> None:
        """Change the maximum number of frames per second; any thread."""
        self._rate = None if max_fps is None else RateLimit(max_fps)

    def set_gate(self, gate: FrameGate | None) -> None:
        """Use another gate, or none, from the next frame on; any thread."""
        self._gate = gate

    def take(self, timeout_s: float, *, request_next: bool = True) -> Captured[T] | None:
        """Take and prepare the newest frame: `take_newest`, then `prepare`."""
        newest = self.take_newest(timeout_s, request_next=request_next)
        return None if newest is None else self.prepare(newest)

    def take_newest(self, timeout_s: float, *, request_next: bool = True) -> Captured[T] | Frame | None:
        """Take the newest frame for `prepare`, waiting for one up to `timeout_s`. Checks for stalls while it waits.

        Called by one thread at a time. Returns None when there is no frame, at once when `finished`. With
        `request_next` False the source is not read until `request_next` is called or a `take` finds no frame. Raises an
        unexpected exception of the camera's thread (a bug).
        """
        left_s = timeout_s
        while True:
            item = self._slot.take(min(left_s, _STALL_CHECK_S), request_next=request_next)
            if item is not None:
                gate = self._gate
                return item if gate is None or isinstance(item, Captured) else gate.aim(item)
            if self._slot.ended:
                break
            self._camera.check_stall()
            left_s -= _STALL_CHECK_S
            if left_s <= 0:
                return None
        if self._bug is not None and self._slot.empty:
            raise self._bug
        return None

    def prepare(self, newest: Captured[T] | Frame) -> Captured[T] | None:
        """Prepare what `take_newest` has returned; any thread, as far as the function `prepare` allows it.

        Returns None when the frame cannot be prepared, and counts it. Raises an unexpected exception (a bug).
        """
        if isinstance(newest, Captured):
            return newest
        try:
            return Captured(newest, self._prepare(newest))
        except EdgeClassifierError as error:
            self.skip(error)
            return None

    def request_next(self) -> None:
        """Read the next frame if the last one was taken; any thread."""
        self._slot.request_next()

    def skip(self, error: EdgeClassifierError) -> None:
        """Count a frame that could not be prepared, and log a warning at most once a minute; any thread."""
        with self._skip_lock:
            self._unprepared += 1
            self._last_error = str(error)
            now_s = self._camera.clock.monotonic()
            warn = now_s >= self._next_warning_s
            if warn:
                self._next_warning_s = now_s + _WARNING_INTERVAL_S
        if warn:
            _log.warning("%s: skipped a frame: %s", self._name, error)

    def request_stop(self) -> None:
        """Begin to stop: leave the camera and discard the offered frame. `stop` then waits for the camera's thread."""
        self._camera.detach(self)
        self._slot.end(discard=True)
        self._notify()
        self.set_status(CaptureStatus.STOPPED, "")

    def stop(self, timeout_s: float) -> bool:
        """Leave the camera, and wait for the end of its thread if this was its last capture. May be called twice.

        Returns:
            False when the camera's thread is stuck in a native call.
        """
        self.request_stop()
        return self._camera.join(timeout_s)

    # The methods below are those of `FrameReceiver`, which the camera calls.

    @property
    def delivering(self) -> bool:
        """See `FrameReceiver.delivering`."""
        return self._status is CaptureStatus.DELIVERING

    def offer(self, frame: Frame) -> bool:
        """Put a frame into the slot. Return False when it is left out: too early, gated, or it cannot be prepared."""
        if self._on_frame is not None:
            self._on_frame(frame)
        rate, gate = self._rate, self._gate  # which another thread may change meanwhile
        if rate is not None and not rate.allows(frame.captured_s):
            return False
        item: Captured[T] | Frame | None
        try:
            if gate is not None:
                item = gate.admit(frame)
            else:
                item = frame if self._prepare_when_taken else Captured(frame, self._prepare(frame))
        except EdgeClassifierError as error:
            self.skip(error)
            return False
        except Exception as error:  # noqa: BLE001 - a bug of this pipeline, which `take` raises; others continue
            self._camera.detach(self)
            self.end(CaptureStatus.STOPPED, error)
            return False
        if self._status is not CaptureStatus.DELIVERING:
            self.set_status(CaptureStatus.DELIVERING, "")
        self._delivered += 1
        if item is None:
            return False
        if self._slot.put(item):
            self._dropped += 1
        self._notify()
        return True

    def wait_until_taken(self, patience_s: float | None) -> None:
        """Wait until the offered frame is taken, or the capture stops; at most `patience_s` seconds, None: no limit."""
        self._slot.wait_until_taken(patience_s)

    def set_status(self, status: CaptureStatus, reason: str) -> None:
        """Set the status. The first of FINISHED and STOPPED is final."""
        with self._status_lock:
            if self._status in {CaptureStatus.FINISHED, CaptureStatus.STOPPED}:
                return
            self._last_error = reason or self._last_error
            if self._status is status:
                return
            self._status = status
            if self._on_status is not None:
                self._on_status(status, reason)

    def end(self, status: CaptureStatus, bug: BaseException | None) -> None:
        """Accept no more frames; `take` raises `bug` after the last frame."""
        reason = ""
        if bug is not None:
            self._bug, status, reason = bug, CaptureStatus.STOPPED, f"{type(bug).__name__}: {bug}"
        try:
            self.set_status(status, reason)
        except BaseException as error:  # noqa: BLE001 - a bug, which `take` raises; the other captures must end too
            self._bug = self._bug or error
        finally:
            self._slot.end()
            self._notify()

    def _notify(self) -> None:
        if self._on_ready is not None:
            self._on_ready()
