"""The thread that reads a frame source, prepares each frame and offers the newest one for inference."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from edge_classifierd.backoff import Backoff
from edge_classifierd.errors import EdgeClassifierError, MissingError, SourceError
from edge_classifierd.frames.latest_slot import LatestSlot

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.frames.base import Frame, FrameSource

T = TypeVar("T")
_log = logging.getLogger(__name__)

FRESHNESS_S: Final = 0.010
"""Time that a live frame is offered before the next one is read, so that a fast camera does not slow down inference."""
_STEADY_S: Final = 10.0
"""A failure after at least this time of delivery begins a new cycle of retries; an earlier one continues it."""
_REOPEN: Final = Backoff(0.5, 30.0)
_MISSING_LIBRARY: Final = Backoff(30.0, 300.0)
"""A missing library is not installed within seconds."""
_STALL_CHECK_S: Final = 1.0
_WARNING_INTERVAL_S: Final = 60.0
"""Minimum time between two warnings about frames that cannot be prepared."""


@dataclass(frozen=True, slots=True)
class Captured(Generic[T]):
    """A frame and the result of `prepare` for it (the input tensor)."""

    frame: Frame
    prepared: T


class CaptureStatus(StrEnum):
    """The state of a capture."""

    STARTING = "starting"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    FINISHED = "finished"
    STOPPED = "stopped"


class Capture(Generic[T]):
    """Reads a source in its own thread, prepares each frame there and offers the newest.

    A live source does not wait for its frames to be taken: after `FRESHNESS_S` the next frame replaces one that was not
    taken. Each frame of another source waits until it is taken. A source that fails is reopened without end, with
    backoff.
    """

    def __init__(
        self,
        source: FrameSource,
        prepare: Callable[[Frame], T],
        *,
        name: str,
        clock: Clock,
        stall_timeout_s: float,
        on_status: Callable[[CaptureStatus, str], None] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare the thread.

        Args:
            source: The source; the capture opens and closes it.
            prepare: Called with each frame in the capture thread.
            name: Name for log messages and the thread.
            clock: The clock.
            stall_timeout_s: A live source that delivers nothing for this long is reopened.
            on_status: Called in the capture thread at each change of the status, with the reason (or "").
            backoff: Pauses between attempts to open the source.
        """
        self._source = source
        self._prepare = prepare
        self._name = name
        self._clock = clock
        self._stall_timeout_s = stall_timeout_s
        self._on_status = on_status
        self._backoff = backoff or _REOPEN
        self._thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)  # see `stop`

        self._stopping = threading.Event()
        self._slot: LatestSlot[Captured[T]] = LatestSlot()
        self._bug: BaseException | None = None

        self._status = CaptureStatus.STARTING
        self._last_error = ""
        self._delivered = 0
        self._dropped = 0
        self._unprepared = 0
        self._times_s: deque[float] = deque(maxlen=33)

        self._beat_s = clock.monotonic()
        self._waits_until_s = -inf
        self._reading_since_s: float | None = None
        self._stalled = False

        self._attempt = 0
        self._delivering_since_s: float | None = None
        self._reported_recovery = False
        self._skip_lock = threading.Lock()  # protects the counter of `skip` and the time of its next warning
        self._next_warning_s = -inf

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
        """Number of frames that were prepared and offered."""
        return self._delivered

    @property
    def dropped(self) -> int:
        """Number of frames that a newer one replaced before they were taken."""
        return self._dropped

    @property
    def skipped(self) -> int:
        """Number of pictures that could not be decoded or prepared."""
        return self._source.skipped + self._unprepared

    @property
    def fps(self) -> float:
        """Frames per second over the latest 33 frames; it falls towards 0 when no more frames arrive."""
        times_s = self._times_s
        if len(times_s) < 2:
            return 0.0
        span_s = self._clock.monotonic() - times_s[0]
        return (len(times_s) - 1) / span_s if span_s > 0 else 0.0

    @property
    def finished(self) -> bool:
        """Whether the source has ended or was stopped and its last frame was taken; False after a bug."""
        return self._slot.ended and self._slot.empty and self._bug is None

    @property
    def last_beat_s(self) -> float:
        """Monotonic time of the thread's last progress, in seconds; infinity after its end.

        A planned wait counts as progress for its planned time: a retry, pacing, an offer, and `open` or `read` of a
        live source up to the stall timeout. The time stands still while a call lasts longer and ignores `cancel`, or
        while the thread does not return from a wait.
        """
        if self._slot.ended and not self._thread.is_alive():
            return inf
        beat_s = max(self._beat_s, self._waits_until_s, self._source.pauses_until_s)
        if self._source.live:
            beat_s += self._stall_timeout_s
        return min(self._clock.monotonic(), beat_s)

    def start(self) -> None:
        """Start the thread. Call it once."""
        self._thread.start()

    def take(self, timeout_s: float, *, request_next: bool = True) -> Captured[T] | None:
        """Take the newest frame, waiting for one up to `timeout_s`. Checks for stalls while it waits.

        Called by one thread at a time. Returns None when there is no frame, at once when `finished`. With
        `request_next` False a live source is not read until `request_next` is called or a `take` finds no frame.
        Raises an unexpected exception of the capture thread (a bug in the source or in `prepare`).
        """
        request_next = request_next or not self._source.live
        left_s = timeout_s
        while True:
            captured = self._slot.take(min(left_s, _STALL_CHECK_S), request_next=request_next)
            if captured is not None:
                return captured
            if self._slot.ended:
                break
            self.check_stall()
            left_s -= _STALL_CHECK_S
            if left_s <= 0:
                return None
        if self._bug is not None and self._slot.empty:
            raise self._bug
        return None

    def request_next(self) -> None:
        """Read the next frame if the last one was taken; any thread."""
        self._slot.request_next()

    def check_stall(self) -> None:
        """Cancel a read of a live source that takes longer than the stall timeout; any thread. `take` calls it too."""
        since_s = self._reading_since_s
        if since_s is None or self._stalled or not self._source.live:
            return
        # A tenth more than the source's own deadline, because its error message is more specific.
        if self._clock.monotonic() - max(since_s, self._source.pauses_until_s) > 1.1 * self._stall_timeout_s:
            self._stalled = True
            self._source.cancel()

    def skip(self, error: EdgeClassifierError) -> None:
        """Count a frame that could not be prepared, and log a warning at most once a minute; any thread."""
        with self._skip_lock:
            self._unprepared += 1
            self._last_error = str(error)
            now_s = self._clock.monotonic()
            warn = now_s >= self._next_warning_s
            if warn:
                self._next_warning_s = now_s + _WARNING_INTERVAL_S
        if warn:
            _log.warning("%s: skipped a frame: %s", self._name, error)

    def request_stop(self) -> None:
        """Begin to stop: cancel the source and discard the offered frame. `stop` then waits for the thread."""
        self._stopping.set()
        self._source.cancel()
        self._slot.end(discard=True)

    def stop(self, timeout_s: float) -> bool:
        """Cancel the source and join the thread. May be called twice and without `start`.

        Returns:
            Whether the thread has ended. A daemon thread that is stuck in a native call is abandoned.
        """
        self.request_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The methods below run in the capture thread.

    def _run(self) -> None:
        status = CaptureStatus.STOPPED
        try:
            while not self._stopping.is_set():
                try:
                    self._open_and_deliver()
                except (SourceError, MissingError) as error:
                    self._source.close()
                    self._retry_later(error)
                else:
                    if not self._stopping.is_set():
                        status = CaptureStatus.FINISHED
                    break
        except BaseException as error:  # noqa: BLE001 - a bug; `take` raises it in the thread of the owner
            self._bug = error
            self._last_error = f"{type(error).__name__}: {error}"
        finally:
            self._end(status)

    def _end(self, status: CaptureStatus) -> None:
        try:
            self._source.close()
            self._set_status(status, self._last_error if self._bug is not None else "")
        except BaseException as error:  # noqa: BLE001 - as above
            self._bug = self._bug or error
        finally:
            self._slot.end()

    def _open_and_deliver(self) -> None:
        """Offer the frames of the source until it ends or `stop` is called. Raises SourceError, MissingError."""
        self._beat_s = self._clock.monotonic()
        self._source.open()
        while not self._stopping.is_set():
            frame = self._read()
            if frame is None:
                return
            try:
                prepared = self._prepare(frame)
            except EdgeClassifierError as error:
                self.skip(error)
                continue
            if self._status is not CaptureStatus.DELIVERING:
                self._recovered()
            self._offer(Captured(frame, prepared))

    def _read(self) -> Frame | None:
        self._reading_since_s = self._beat_s = self._clock.monotonic()
        try:
            frame = self._source.read()
        except SourceError as error:
            if self._stalled:
                raise self._stall() from error
            raise
        finally:
            self._reading_since_s = None
        if frame is None and self._stalled:
            raise self._stall()
        self._beat_s = self._clock.monotonic()
        return frame

    def _stall(self) -> SourceError:
        self._stalled = False
        return SourceError(f"the source delivered no frame for {self._stall_timeout_s:g} s; check the camera")

    def _offer(self, captured: Captured[T]) -> None:
        self._times_s.append(self._beat_s)
        self._delivered += 1
        patience_s = FRESHNESS_S if self._source.live else None
        self._waits_until_s = inf if patience_s is None else self._clock.monotonic() + patience_s
        if self._slot.offer(captured, patience_s):
            self._dropped += 1
        self._beat_s, self._waits_until_s = self._clock.monotonic(), -inf

    def _recovered(self) -> None:
        self._delivering_since_s = self._clock.monotonic()
        if self._attempt:
            level = logging.DEBUG if self._reported_recovery else logging.INFO
            _log.log(level, "%s: delivers again after %d failed attempts", self._name, self._attempt)
            self._reported_recovery = True
        self._set_status(CaptureStatus.DELIVERING, "")

    def _retry_later(self, error: SourceError | MissingError) -> None:
        if self._stopping.is_set():
            return
        self._stalled = False
        since_s, self._delivering_since_s = self._delivering_since_s, None
        if since_s is not None and self._clock.monotonic() - since_s >= _STEADY_S:
            self._attempt = 0
        self._attempt += 1
        backoff = _MISSING_LIBRARY if isinstance(error, MissingError) else self._backoff
        delay_s = backoff.delay_s(self._attempt)
        self._last_error = str(error)
        if self._attempt == 1:
            self._reported_recovery = False
            _log.warning("%s: %s (trying again until it works)", self._name, error)
        else:
            _log.debug("%s: %s (attempt %d, next in %.1f s)", self._name, error, self._attempt, delay_s)
        self._set_status(CaptureStatus.RETRYING, self._last_error)
        self._waits_until_s = self._clock.monotonic() + delay_s
        self._stopping.wait(delay_s)
        self._beat_s, self._waits_until_s = self._clock.monotonic(), -inf

    def _set_status(self, status: CaptureStatus, sentence: str) -> None:
        changed, self._status = status is not self._status, status
        if changed and self._on_status is not None:
            self._on_status(status, sentence)
