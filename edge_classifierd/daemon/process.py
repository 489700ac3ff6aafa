"""What starting and reloading needed is let go of a moment later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.memory_maps import read_only_mappings, release_unchanged

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.memory_maps import MemoryMapping

_SETTLED_AFTER_S: Final = 1.0


class PageRelease:
    """Two looks at the libraries, a second apart, then their pages are released; used by the service's thread.

    Measured with bench/startup.py: of 115 MB resident 80 stay.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: frozenset[MemoryMapping] | None = None
        self._due_s = float("-inf")
        self._settled = False

    def begin(self) -> None:
        """Once more: much was loaded again."""
        self._known = None
        self._settled = False

    def tick(self) -> None:
        """Call it often."""
        if self._settled:
            return
        if self._known is None:
            self._known = read_only_mappings()
            self._due_s = self._clock.monotonic() + _SETTLED_AFTER_S
        elif self._clock.monotonic() >= self._due_s:
            release_unchanged(self._known)
            self._known = None
            self._settled = True
