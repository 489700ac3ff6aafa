"""The supervisor: notices a pipeline that a bug has ended, starts it again calmly, and knows when to give up."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING, Final

from edge_classifierd.backoff import Backoff, RecentFailures
from edge_classifierd.errors import EdgeClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.pipeline.pipeline import Pipeline

_log = logging.getLogger(__name__)

BUDGET: Final = 5
BUDGET_WINDOW_S: Final = 600.0
_RESTART: Final = Backoff(0.5, 30.0)


class GaveUpError(EdgeClassifierError):
    """A pipeline failed too often; systemd starts the daemon afresh."""


class Supervisor:
    """Watches the pipelines' threads; used by the service's thread, which calls `tick` a few times a second."""

    def __init__(self, remake: Callable[[Pipeline], Pipeline], clock: Clock) -> None:
        """`remake` makes a new, not yet started pipeline of the same plan."""
        self._remake = remake
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter
        self._failures: dict[str, RecentFailures] = {}
        self._due_s: dict[str, float] = {}

    def tick(self, pipelines: dict[str, Pipeline]) -> None:
        """Start again what failed, when it is due; replaces it in `pipelines`. Raises GaveUpError."""
        for name, pipeline in list(pipelines.items()):
            if pipeline.failure is None:
                continue
            if name not in self._due_s:
                self._due_s[name] = self._note(name, pipeline.failure)
            elif self._clock.monotonic() >= self._due_s[name]:
                del self._due_s[name]
                pipeline.stop(1.0)
                replacement = self._remake(pipeline)
                replacement.metrics.restarted()
                pipelines[name] = replacement
                replacement.start()
                _log.info("%s: started again", name)

    def forget(self, name: str) -> None:
        """The pipeline was replaced or removed by a reload."""
        self._failures.pop(name, None)
        self._due_s.pop(name, None)

    def _note(self, name: str, failure: BaseException) -> float:
        """Log the bug, spend a restart, and say when it is due."""
        recent = self._failures.setdefault(name, RecentFailures(self._clock, BUDGET_WINDOW_S))
        recent.add()
        _log.error("%s: failed unexpectedly; this is a bug", name, exc_info=failure)
        if len(recent) > BUDGET:
            raise GaveUpError(
                f"{name}: failed {len(recent)} times within {recent.span_s:.0f} s; the last time with "
                f"{type(failure).__name__}: {failure}; please report this with the log"
            ) from failure
        return self._clock.monotonic() + _RESTART.delay_s(len(recent), self._random)
