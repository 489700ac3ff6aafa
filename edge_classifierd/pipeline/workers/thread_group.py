"""A group of threads that repeat one step, supervised by a heartbeat for each."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_classifierd.health.heartbeat import Beat, Heartbeats

STUCK_AFTER_S: Final = 15.0
"""A stage that makes no progress for this long is stuck; the watchdog then restarts the daemon."""
POLL_S: Final = 0.5
"""Maximum time that a step may wait for something to do, so that its heartbeat shows progress."""


class ThreadGroup:
    """Starts threads that call `step` until `stop`. A thread and its heartbeat have the same name."""

    def __init__(
        self, names: Sequence[str], step: Callable[[Beat], None], wake: Callable[[], None], heartbeats: Heartbeats
    ) -> None:
        """Start the threads.

        Args:
            names: One for each thread.
            step: Waits up to `POLL_S` for something to do and does it; called with the heartbeat of the thread, on
                which it records what it does, or that there was nothing to do. An exception is a bug: it ends the
                thread, and the watchdog then finds that its heartbeat has stopped.
            wake: Ends the wait of one thread in `step`.
            heartbeats: Receives a heartbeat for each thread.

        Raises:
            RuntimeError: The system has no more threads; none of the group remains.
        """
        self._step = step
        self._wake = wake
        self._heartbeats = heartbeats
        self._stopping = False
        beats = [heartbeats.register(name, STUCK_AFTER_S) for name in names]
        self._threads = [
            threading.Thread(target=self._run, args=(beat,), name=beat.name, daemon=True) for beat in beats
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self.stop(POLL_S)
            raise

    def stop(self, timeout_s: float) -> bool:
        """End and join the threads. Return False when one is stuck in a call; it is abandoned."""
        self._stopping = True
        for _ in self._threads:
            self._wake()
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end_s - time.monotonic()))
            self._heartbeats.release(thread.name)
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, beat: Beat) -> None:
        beat.progress()
        while not self._stopping:
            self._step(beat)
