"""Counts those who see live pictures, and bounds their number."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from edge_classifierd.web.route import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.clock import Clock

_LEAVES_AFTER_S: Final = 5.0


class Viewers:
    """A viewer keeps its place until 5 s after its last picture. Used by the page's thread."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._present: dict[str, tuple[int, float]] = {}  # the number of its requests, and when the last one ended

    @property
    def count(self) -> int:
        """Number of viewers now."""
        self._remove_gone()
        return len(self._present)

    @contextmanager
    def place(self, viewer: str) -> Iterator[None]:
        """Hold a viewer's place during a request. Raises RequestError when all places are taken."""
        self._remove_gone()
        requests, _ = self._present.get(viewer, (0, 0.0))
        if not requests and viewer not in self._present and len(self._present) >= self._most:
            sentence = f"{self._most} are looking on already"
            raise RequestError(503, "too_many_viewers", sentence, retry_after_s=5)
        self._present[viewer] = (requests + 1, 0.0)
        try:
            yield
        finally:
            requests, _ = self._present[viewer]
            self._present[viewer] = (requests - 1, self._clock.monotonic())

    def _remove_gone(self) -> None:
        since_s = self._clock.monotonic() - _LEAVES_AFTER_S
        self._present = {
            viewer: (requests, ended_s)
            for viewer, (requests, ended_s) in self._present.items()
            if requests or ended_s > since_s
        }
