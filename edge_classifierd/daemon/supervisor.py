"""The supervisor: restarts pipelines that could not start or that an exception ended, with growing pauses."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING, Final

from edge_classifierd.backoff import Backoff, RecentFailures
from edge_classifierd.errors import failure_sentence, is_expected

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.daemon.starting_pipeline import AnyPipeline

_log = logging.getLogger(__name__)

WINDOW_S: Final = 600.0
"""A failure is forgotten after this long."""
_RESTART: Final = Backoff(0.5, 30.0)


class Supervisor:
    """Restarts failed pipelines. Used by the service's thread, which calls `tick` a few times a second.

    A failure affects its own pipeline only: that is offline with its reason and is tried again without end.
    """

    def __init__(self, remake: Callable[[AnyPipeline], AnyPipeline], clock: Clock) -> None:
        """`remake` makes a new, not yet started pipeline for one that has failed; it raises nothing."""
        self._remake = remake
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter
        self._failures: dict[str, RecentFailures] = {}
        self._logged: dict[str, str] = {}
        self._due_s: dict[str, float] = {}

    def tick(self, pipelines: dict[str, AnyPipeline]) -> None:
        """Restart failed pipelines that are due, and replace them in `pipelines`."""
        for name, pipeline in list(pipelines.items()):
            if pipeline.failure is None:
                continue
            if name not in self._due_s:
                self._due_s[name] = self._note(name, pipeline.failure)
            elif self._clock.monotonic() >= self._due_s[name]:
                del self._due_s[name]
                pipeline.stop(1.0)
                pipelines[name] = self._remake(pipeline)
                pipelines[name].start()
                _log.debug("%s: started again", name)

    def forget(self, name: str) -> None:
        """Forget the failures of a pipeline that a reload has replaced or removed, or that can start now."""
        for kept in (self._failures, self._due_s, self._logged):
            kept.pop(name, None)

    def _note(self, name: str, failure: BaseException) -> float:
        """Log a failure that is not the same as the last one, and return when the next attempt is due."""
        recent = self._failures.setdefault(name, RecentFailures(self._clock, WINDOW_S))
        recent.add()
        sentence = failure_sentence(failure)
        if len(recent) > 1 and self._logged.get(name) == sentence:
            _log.debug("%s: %s (failed %d times within %g s)", name, sentence, len(recent), WINDOW_S)
        elif is_expected(failure):
            _log.warning("%s: %s (trying again until it works)", name, sentence)
        else:
            _log.error("%s: %s (trying again)", name, sentence, exc_info=failure)
        self._logged[name] = sentence
        return self._clock.monotonic() + _RESTART.delay_s(len(recent), self._random)
