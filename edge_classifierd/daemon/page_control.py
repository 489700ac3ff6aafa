"""The page's commands and its view of the pipelines."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.commands import Command, RefusedError, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.daemon.pipelines import Pipelines
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.observation.control import CommandOutcome, PipelineView
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.preprocess import Region

_MOST_QUEUED: Final = 16


class PageControl:
    """Implements PipelineControl: a queue of commands, emptied by the service's thread."""

    def __init__(self, pipelines: Pipelines, wake: Callable[[], None]) -> None:
        """`wake` is called after a command was queued."""
        self._pipelines = pipelines
        self._wake = wake
        self._queue: queue.Queue[tuple[Command, Future[CommandOutcome]]] = queue.Queue(_MOST_QUEUED)

    def view(self) -> tuple[PipelineView, ...]:
        """See `PipelineControl.view`."""
        return self._pipelines.view()

    def submit(self, command: Command) -> Future[CommandOutcome]:
        """See `PipelineControl.submit`."""
        check(command, self._pipelines.watches)
        future: Future[CommandOutcome] = Future()
        try:
            self._queue.put_nowait((command, future))
        except queue.Full:
            raise RefusedError("too many commands are waiting") from None
        self._wake()
        return future

    def rests_until_s(self, pipeline: str) -> float | None:
        """See `PipelineControl.rests_until_s`."""
        return self._pipelines.rests_until_s(pipeline)

    def try_region(self, pipeline: str, region: Region, frame: Frame) -> ObservedFrame:
        """See `PipelineControl.try_region`."""
        return self._pipelines.try_region(pipeline, region, frame)

    def take(self) -> tuple[Command, Future[CommandOutcome]] | None:
        """Return the next command with the future for its outcome; None if there is none."""
        while True:
            try:
                command, future = self._queue.get_nowait()
            except queue.Empty:
                return None
            if future.set_running_or_notify_cancel():
                return command, future
