"""The supervisor: notices a pipeline that a bug has ended, starts it again calmly, and knows when to give up."""

from __future__ import annotations

import logging
from collections import deque
from random import Random
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import EdgeClassifierError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.clock import Clock
    from edge_classifierd.pipeline.pipeline import Pipeline

_log = logging.getLogger(__name__)

BUDGET: Final = 5
BUDGET_WINDOW_S: Final = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class GaveUpError(EdgeClassifierError):
    """A pipeline failed too often; systemd starts the daemon afresh."""


class Supervisor:
    """Watches the pipelines' threads; used by the service's thread, which calls `tick` a few times a second."""

    def __init__(self, remake: Callable[[Pipeline], Pipeline], clock: Clock) -> None:
        """`remake` makes a new, not yet started pipeline of the same plan."""
        self._remake = remake
        self._clock = clock
        self._random = Random()  # noqa: S311 - jitter
        self._failures: dict[str, deque[float]] = {}
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
        now_s = self._clock.monotonic()
        recent = self._failures.setdefault(name, deque())
        while recent and now_s - recent[0] > BUDGET_WINDOW_S:
            recent.popleft()
        recent.append(now_s)
        _log.error("%s: failed unexpectedly; this is a bug", name, exc_info=failure)
        if len(recent) > BUDGET:
            raise GaveUpError(
                f"{name}: failed {len(recent)} times within {now_s - recent[0]:.0f} s; the last time with "
                f"{type(failure).__name__}: {failure}; please report this with the log"
            ) from failure
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (len(recent) - 1)) * self._random.uniform(0.5, 1.0)
        return now_s + pause_s
