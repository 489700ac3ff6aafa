"""The page's commands and its view of the pipelines."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from edge_classifierd.mqtt.commands import Command, RefusedError, check
from edge_classifierd.pipeline.observation.control import PipelineView, Resting
from edge_classifierd.pipeline.rest import Rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.daemon.pipelines import Pipelines
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.observation.control import CommandOutcome
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.surroundings import Surroundings
    from edge_classifierd.preprocess import Region
    from edge_classifierd.web.live.history import History

_MOST_QUEUED: Final = 16


class PageControl:
    """Implements PipelineControl: a queue of commands, emptied by the service's thread."""

    def __init__(self, pipelines: Pipelines, surroundings: Surroundings, wake: Callable[[], None]) -> None:
        """`surroundings` are those of the pipelines; `wake` is called after a command was queued."""
        self._pipelines = pipelines
        self._around = surroundings
        self._wake = wake
        self._queue: queue.Queue[tuple[Command, Future[CommandOutcome]]] = queue.Queue(_MOST_QUEUED)

    def view(self) -> tuple[PipelineView, ...]:
        """See `PipelineControl.view`."""
        return tuple(
            PipelineView(
                plan=pipeline.plan,
                enabled=pipeline.enabled,
                online=pipeline.online,
                offline_reason=pipeline.offline_reason,
                commands=self._around.saved_state.commands(pipeline.name),
                metrics=pipeline.metrics,
                resting=self._resting(pipeline),
            )
            for pipeline in self._pipelines.pipelines
        )

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

    def resting(self, pipeline: str) -> Resting | None:
        """See `PipelineControl.resting`."""
        return next((self._resting(one) for one in self._pipelines.pipelines if one.name == pipeline), None)

    def pause_cameras(self, timeout_s: float) -> None:
        """See `PipelineControl.pause_cameras`."""
        self._around.rest_times.pause(timeout_s)
        self._wake()

    def resume_cameras(self) -> None:
        """See `PipelineControl.resume_cameras`."""
        self._around.rest_times.resume()
        self._wake()

    def try_region(self, pipeline: str, region: Region, frame: Frame) -> ObservedFrame:
        """See `PipelineControl.try_region`."""
        return self._pipelines.try_region(pipeline, region, frame)

    def record_rests(self, history: History) -> None:
        """Record which pipelines rest now. Called by the service's thread."""
        now_s = self._around.clock.monotonic()
        for one in self._pipelines.pipelines:
            history.record_rest(one.name, one.resting or one.rests_until_s is not None, now_s)

    def take(self) -> tuple[Command, Future[CommandOutcome]] | None:
        """Return the next command with the future for its outcome; None if there is none."""
        while True:
            try:
                command, future = self._queue.get_nowait()
            except queue.Empty:
                return None
            if future.set_running_or_notify_cancel():
                return command, future

    def _resting(self, pipeline: AnyPipeline) -> Resting | None:
        if pipeline.resting:
            times, active = self._around.rest_times, pipeline.plan.section.active
            match times.rest(active):
                case Rest.PAUSED:
                    return Resting("training", times.paused_until)
                case Rest.ACTIVE:  # the camera is being opened
                    return None
                case _:
                    return Resting("schedule", times.active_again(active))
        until_s = pipeline.rests_until_s
        if until_s is None:
            return None
        clock = self._around.clock
        return Resting("gate", clock.utc() + timedelta(seconds=max(0.0, until_s - clock.monotonic())))
