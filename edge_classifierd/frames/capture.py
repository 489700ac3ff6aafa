"""The thread that owns a frame source and keeps a slot of one prepared frame filled for inference."""

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
"""How long a live frame is offered before a newer one may replace it; so no camera takes the cores from inference."""
_STEADY_S: Final = 10.0
"""A failure after delivering this long begins a new cycle of retries; an earlier one continues the old one."""
_REOPEN: Final = Backoff(0.5, 30.0)
_MISSING_LIBRARY: Final = Backoff(30.0, 300.0)
"""A missing library is not installed within seconds."""
_STALL_CHECK_S: Final = 1.0
_QUIET_S: Final = 60.0
"""A frame that cannot be prepared is warned of once in this long."""


@dataclass(frozen=True, slots=True)
class Captured(Generic[T]):
    """A frame and what `prepare` made of it (the input tensor)."""

    frame: Frame
    prepared: T


class CaptureStatus(StrEnum):
    """What a capture does now."""

    STARTING = "starting"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    FINISHED = "finished"
    STOPPED = "stopped"


class Capture(Generic[T]):
    """Reads a source in a thread of its own, prepares each frame there, and offers the newest.

    Live sources never wait for the taker: a frame that is not taken within `FRESHNESS_S` is replaced by the next one.
    Every frame of another source is kept until it is taken. A source that fails is reopened for ever, with backoff.
    `on_status` is called in the capture thread at every change of status, with the sentence that explains it (or "").
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
        self._skipping = threading.Lock()  # over what `skip` counts
        self._quiet_until_s = -inf

    @property
    def status(self) -> CaptureStatus:
        """What it does now."""
        return self._status

    @property
    def last_error(self) -> str:
        """The sentence of the latest failure; empty when there was none."""
        return self._last_error

    @property
    def delivered(self) -> int:
        """Frames prepared and offered."""
        return self._delivered

    @property
    def dropped(self) -> int:
        """Frames replaced by a newer one before they were taken."""
        return self._dropped

    @property
    def skipped(self) -> int:
        """Pictures that could not be decoded or prepared."""
        return self._source.skipped + self._unprepared

    @property
    def fps(self) -> float:
        """Frames a second over the latest 33 frames, sinking towards 0 when no more come."""
        times_s = self._times_s
        if len(times_s) < 2:
            return 0.0
        span_s = self._clock.monotonic() - times_s[0]
        return (len(times_s) - 1) / span_s if span_s > 0 else 0.0

    @property
    def finished(self) -> bool:
        """True when the source has ended, or `stop` was called, and its last frame was taken; not after a bug."""
        return self._slot.ended and self._slot.empty and self._bug is None

    @property
    def last_beat_s(self) -> float:
        """Monotonic time at which the thread last made progress or chose to wait; infinity once it has ended.

        Retrying, pacing and waiting for a taker are chosen waits, each as long as it was meant to be, and so is a live
        source's `open` or `read` up to the stall timeout. What stops the beat is a call that outlasts that and ignores
        `cancel`, or a thread that does not come back from a wait.
        """
        if self._slot.ended and not self._thread.is_alive():
            return inf
        beat_s = max(self._beat_s, self._waits_until_s, self._source.pauses_until_s)
        if self._source.live:
            beat_s += self._stall_timeout_s
        return min(self._clock.monotonic(), beat_s)

    def start(self) -> None:
        """Start the thread; once only."""
        self._thread.start()

    def take(self, timeout_s: float, *, ask: bool = True) -> Captured[T] | None:
        """The newest frame that was not taken yet, waiting for it up to `timeout_s`; None when none came.

        None at once when `finished`. Looks for stalls while it waits. Called by one thread at a time. With `ask` False
        a live source is left alone until `ask` is called, or `take` finds nothing; another one has a picture to decode
        meanwhile. An unexpected exception of the capture thread (a bug in the source or in `prepare`) is raised here.
        """
        ask = ask or not self._source.live
        left_s = timeout_s
        while True:
            captured = self._slot.take(min(left_s, _STALL_CHECK_S), ask=ask)
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

    def ask(self) -> None:
        """Have the next frame read, once the last one was taken; any thread."""
        self._slot.ask()

    def check_stall(self) -> None:
        """Cancel the read of a live source that has delivered nothing for longer than the stall timeout; any thread.

        `take` does this too; call it from elsewhere when nobody takes (a pipeline that is switched off).
        """
        since_s = self._reading_since_s
        if since_s is None or self._stalled or not self._source.live:
            return
        # A tenth more than the source's own deadline, whose sentence says more.
        if self._clock.monotonic() - max(since_s, self._source.pauses_until_s) > 1.1 * self._stall_timeout_s:
            self._stalled = True
            self._source.cancel()

    def skip(self, error: EdgeClassifierError) -> None:
        """Count a frame that could not be prepared, and warn of it once a minute; any thread."""
        with self._skipping:
            self._unprepared += 1
            self._last_error = str(error)
            now_s = self._clock.monotonic()
            quiet = now_s < self._quiet_until_s
            if not quiet:
                self._quiet_until_s = now_s + _QUIET_S
        if not quiet:
            _log.warning("%s: skipped a frame: %s", self._name, error)

    def request_stop(self) -> None:
        """Begin to end: cancel the source and drop the frame that waits. `stop` waits for it."""
        self._stopping.set()
        self._source.cancel()
        self._slot.end(discard=True)

    def stop(self, timeout_s: float) -> bool:
        """Cancel the source and join the thread; True when it has ended. Safe to call twice and without `start`.

        A thread that is stuck in a native call is left behind; it does not keep the process from ending.
        """
        self.request_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # From here on: the capture thread.

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
        except BaseException as error:  # noqa: BLE001 - a bug: handed to the owner, who raises it in `take`
            self._bug = error
            self._last_error = f"{type(error).__name__}: {error}"
        finally:
            self._end(status)

    def _end(self, status: CaptureStatus) -> None:
        try:
            self._source.close()
            self._tell(status, self._last_error if self._bug is not None else "")
        except BaseException as error:  # noqa: BLE001 - the same
            self._bug = self._bug or error
        finally:
            self._slot.end()

    def _open_and_deliver(self) -> None:
        """Offer the source's frames until it ends or it is time to stop. Raises SourceError, MissingError."""
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
        self._tell(CaptureStatus.DELIVERING, "")

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
        self._tell(CaptureStatus.RETRYING, self._last_error)
        self._waits_until_s = self._clock.monotonic() + delay_s
        self._stopping.wait(delay_s)
        self._beat_s, self._waits_until_s = self._clock.monotonic(), -inf

    def _tell(self, status: CaptureStatus, sentence: str) -> None:
        changed, self._status = status is not self._status, status
        if changed and self._on_status is not None:
            self._on_status(status, sentence)
