"""What both kinds of workers share: the result of a frame, and the start of their threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import InferenceError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.health.heartbeat import Heartbeats
    from edge_classifierd.inference.base import Inference

STUCK_AFTER_S: Final = 15.0
"""A stage that makes no progress for this long is stuck; the watchdog then restarts the daemon."""
POLL_S: Final = 0.5
"""Maximum time after which a waiting thread checks whether it has to stop."""


@dataclass(frozen=True, slots=True)
class Classified:
    """A frame and its inference, or the error of the inference."""

    frame: Frame
    outcome: Inference | InferenceError


def classify(frame: Frame, inference: Callable[[], Inference]) -> Classified:
    """Call `inference` and return its result or its InferenceError with the frame."""
    try:
        return Classified(frame, inference())
    except InferenceError as error:
        return Classified(frame, error)


def start_threads(threads: Sequence[threading.Thread], heartbeats: Heartbeats, stopping: threading.Event) -> None:
    """Start all threads. If the system has no more threads, stop those that run and raise RuntimeError."""
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        stopping.set()
        for thread in threads:
            heartbeats.release(thread.name)  # a thread and its heartbeat have the same name
        raise
