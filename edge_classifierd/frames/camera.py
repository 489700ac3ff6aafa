"""The thread that reads a frame source and passes each frame to the captures of its pipelines."""

from __future__ import annotations

import logging
import threading
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final, Protocol

from edge_classifierd.backoff import Backoff
from edge_classifierd.errors import MissingError, SourceError
from edge_classifierd.frames.picture_check import PictureCheck

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.frames.base import Frame, FrameSource
    from edge_classifierd.health.metrics import Reason

_log = logging.getLogger(__name__)

FRESHNESS_S: Final = 0.010
"""Time that a live frame is offered before the next one is read, so that a fast camera does not slow down inference."""
_STEADY_S: Final = 10.0
"""A failure after at least this time of delivery begins a new cycle of retries; an earlier one continues it."""
_REOPEN: Final = Backoff(0.5, 30.0)
_MISSING_LIBRARY: Final = Backoff(30.0, 300.0)
"""A missing library is not installed within seconds."""


class CaptureStatus(StrEnum):
    """The state of a capture."""

    STARTING = "starting"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    FINISHED = "finished"
    STOPPED = "stopped"


class FrameReceiver(Protocol):
    """Receives the frames of a camera (`frames.capture.Capture`). Its methods are called in the camera's thread."""

    @property
    def delivering(self) -> bool:
        """Whether frames have arrived since the last failure."""

    def offer(self, frame: Frame) -> bool:
        """Offer a frame. Return whether it waits to be taken."""

    def wait_until_taken(self, patience_s: float | None) -> None:
        """Wait until the offered frame is taken, at most `patience_s` seconds; None: without limit."""

    def set_status(self, status: CaptureStatus, reason: str) -> None:
        """Set the status; also called by the thread that attaches."""

    def end(self, status: CaptureStatus, bug: BaseException | None) -> None:
        """Set the final status; there are no more frames. `bug` is an unexpected exception of the camera."""


class Camera:
    """Reads a source in its own thread and offers each frame to every attached capture.

    A live source does not wait for its frames to be taken: after `FRESHNESS_S` the next frame replaces one that was not
    taken. Each frame of another source waits until all captures have taken it. A source that fails is reopened without
    end, with backoff. The thread ends when the source ends or when the last capture is detached.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        name: str,
        clock: Clock,
        stall_timeout_s: float,
        wait_for: int = 1,
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare the thread.

        Args:
            source: The source; the camera opens and closes it.
            name: Name for log messages and the thread.
            clock: The clock.
            stall_timeout_s: A live source that delivers nothing for this long is reopened.
            wait_for: A source that is not live waits up to a second for so many captures, so that none misses a frame.
            backoff: Pauses between attempts to open the source.
        """
        self.source: Final = source
        self.clock: Final = clock
        self._name = name
        self._stall_timeout_s = stall_timeout_s
        self._backoff = backoff or _REOPEN
        self._picture_check = PictureCheck(name)
        self._thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)  # see `join`

        self._lock = threading.Lock()  # protects the captures and the end
        self._captures: tuple[FrameReceiver, ...] = ()
        self._wait_for = wait_for
        self._complete = threading.Event()
        self._started = self._ended = False
        self._stopping = threading.Event()

        self._failure = ""  # the reason while the source is not delivering
        self._beat_s = clock.monotonic()
        self._waits_until_s = -inf
        self._reading_since_s: float | None = None
        self._stalled = False

        self._attempt = 0
        self._delivering_since_s: float | None = None
        self._reported_recovery = False

    @property
    def last_beat_s(self) -> float:
        """Monotonic time of the thread's last progress, in seconds; infinity after its end.

        A planned wait counts as progress for its planned time: a retry, pacing, an offer, and `open` or `read` of a
        live source up to the stall timeout. The time stands still while a call lasts longer and ignores `cancel`, or
        while the thread does not return from a wait.
        """
        if self._ended and not self._thread.is_alive():
            return inf
        beat_s = max(self._beat_s, self._waits_until_s, self.source.pauses_until_s)
        if self.source.live:
            beat_s += self._stall_timeout_s
        return min(self.clock.monotonic(), beat_s)

    @property
    def picture_problem(self) -> Reason | None:
        """What is wrong with the picture of a live source; None when nothing is known to be wrong."""
        return self._picture_check.problem

    def attach(self, capture: FrameReceiver) -> bool:
        """Add a capture. Return False when the camera has ended; it then does nothing. Any thread."""
        with self._lock:
            if self._ended:
                return False
            self._captures = (*self._captures, capture)
            if len(self._captures) >= self._wait_for:
                self._complete.set()
            failure = self._failure
        if failure:
            capture.set_status(CaptureStatus.RETRYING, failure)
        return True

    def detach(self, capture: FrameReceiver) -> None:
        """Remove a capture. After the last one the thread ends; `join` waits for it. May be called twice."""
        with self._lock:
            self._captures = tuple(each for each in self._captures if each is not capture)
            if not self._captures:
                self._ended = True
                self._stopping.set()
                self._complete.set()
                self.source.cancel()

    def start(self) -> None:
        """Start the thread if it was not started. Raises RuntimeError when the system has no more threads."""
        with self._lock:
            if self._started or self._ended:
                return
            self._thread.start()
            self._started = True

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread if the last capture was detached.

        Returns:
            False when the thread is stuck in a native call. It is a daemon thread and is abandoned.
        """
        if self._started and self._stopping.is_set():
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def check_stall(self) -> None:
        """Cancel a read of a live source that takes longer than the stall timeout; any thread."""
        since_s = self._reading_since_s
        if since_s is None or self._stalled or not self.source.live:
            return
        # A tenth more than the source's own deadline, because its error message is more specific.
        if self.clock.monotonic() - max(since_s, self.source.pauses_until_s) > 1.1 * self._stall_timeout_s:
            with self._lock:
                cancelled, self._stalled = self._stalled, True
            if not cancelled:
                self.source.cancel()

    # The methods below run in the camera's thread.

    def _run(self) -> None:
        status, bug = CaptureStatus.STOPPED, None
        try:
            if not self.source.live:
                self._complete.wait(1.0)
            while not self._stopping.is_set():
                try:
                    self._open_and_deliver()
                except (SourceError, MissingError) as error:
                    self.source.close()
                    self._retry_later(error)
                else:
                    if not self._stopping.is_set():
                        status = CaptureStatus.FINISHED
                    break
        except BaseException as error:  # noqa: BLE001 - a bug; `Capture.take` raises it in the pipelines' threads
            bug = error
        try:
            self.source.close()
        except BaseException as error:  # noqa: BLE001 - as above
            bug = bug or error
        with self._lock:
            self._ended = True
        for capture in self._captures:
            capture.end(status, bug)

    def _open_and_deliver(self) -> None:
        """Offer the frames of the source until it ends or the camera stops. Raises SourceError, MissingError."""
        self._beat_s = self.clock.monotonic()
        self.source.open()
        while not self._stopping.is_set():
            frame = self._read()
            if frame is None:
                return
            self._offer(frame)

    def _read(self) -> Frame | None:
        self._reading_since_s = self._beat_s = self.clock.monotonic()
        try:
            frame = self.source.read()
        except SourceError as error:
            if self._stalled:
                raise self._stall() from error
            raise
        finally:
            self._reading_since_s = None
        if frame is None and self._stalled:
            raise self._stall()
        self._beat_s = self.clock.monotonic()
        return frame

    def _stall(self) -> SourceError:
        self._stalled = False
        return SourceError(f"the source delivered no frame for {self._stall_timeout_s:g} s; check the camera")

    def _offer(self, frame: Frame) -> None:
        """Offer a frame to every capture, then wait until they have taken it, a live frame for `FRESHNESS_S`."""
        if self.source.live:
            self._picture_check.observe(frame.picture, self._beat_s)
        offered = [capture for capture in self._captures if capture.offer(frame)]
        if self._delivering_since_s is None and any(capture.delivering for capture in self._captures):
            self._recovered()
        if not offered:
            return
        if self.source.live:
            self._waits_until_s = end_s = self.clock.monotonic() + FRESHNESS_S
            offered[0].wait_until_taken(FRESHNESS_S)
            for capture in offered[1:]:
                capture.wait_until_taken(max(0.0, end_s - self.clock.monotonic()))
        else:
            self._waits_until_s = inf
            for capture in offered:
                capture.wait_until_taken(None)
        self._beat_s, self._waits_until_s = self.clock.monotonic(), -inf

    def _recovered(self) -> None:
        self._delivering_since_s = self.clock.monotonic()
        self._failure = ""
        if self._attempt:
            level = logging.DEBUG if self._reported_recovery else logging.INFO
            _log.log(level, "%s: delivers again after %d failed attempts", self._name, self._attempt)
            self._reported_recovery = True

    def _retry_later(self, error: SourceError | MissingError) -> None:
        if self._stopping.is_set():
            return
        self._stalled = False
        since_s, self._delivering_since_s = self._delivering_since_s, None
        if since_s is not None and self.clock.monotonic() - since_s >= _STEADY_S:
            self._attempt = 0
        self._attempt += 1
        backoff = _MISSING_LIBRARY if isinstance(error, MissingError) else self._backoff
        delay_s = backoff.delay_s(self._attempt)
        if self._attempt == 1:
            self._reported_recovery = False
            _log.warning("%s: %s (trying again until it works)", self._name, error)
        else:
            _log.debug("%s: %s (attempt %d, next in %.1f s)", self._name, error, self._attempt, delay_s)
        with self._lock:
            self._failure = str(error)
            captures = self._captures
        for capture in captures:
            capture.set_status(CaptureStatus.RETRYING, str(error))
        self._waits_until_s = self.clock.monotonic() + delay_s
        self._stopping.wait(delay_s)
        self._beat_s, self._waits_until_s = self.clock.monotonic(), -inf
