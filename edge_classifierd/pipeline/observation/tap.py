"""The newest frame of each pipeline's camera, for display."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame

_log = logging.getLogger(__name__)


class FrameTap:
    """Passes the frames of a pipeline's camera to subscribers. Thread-safe.

    It also passes frames that are not classified. Without a subscriber it costs one look-up per frame, and no frame is
    kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged = False
        self._subscribers: dict[str, tuple[Callable[[Frame], None], ...]] = {}

    def offer(self, pipeline: str, frame: Frame) -> None:
        """Pass a frame to the subscribers of a pipeline. Called in the camera's thread."""
        for subscriber in self._subscribers.get(pipeline, ()):
            try:
                subscriber(frame)
            except Exception:  # noqa: BLE001 - a bug of a subscriber must not affect the camera
                if not self._logged:
                    self._logged = True
                    _log.exception("the page cannot follow the camera of %s; the pipeline continues", pipeline)

    @contextmanager
    def subscribe(self, pipeline: str, on_frame: Callable[[Frame], None]) -> Iterator[None]:
        """Call `on_frame` with each frame of a pipeline's camera, in the camera's thread. It must return at once."""
        with self._lock:
            self._subscribers = {
                **self._subscribers,
                pipeline: (*self._subscribers.get(pipeline, ()), on_frame),
            }
        try:
            yield
        finally:
            with self._lock:
                rest = tuple(one for one in self._subscribers[pipeline] if one is not on_frame)
                others = {name: known for name, known in self._subscribers.items() if name != pipeline}
                self._subscribers = {**others, pipeline: rest} if rest else others
