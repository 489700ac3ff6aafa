"""The health document with what the page adds: who looks on, the stored pictures, and whether the page is slow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.health.report import document
from edge_classifierd.pipeline.event_pictures import MOST_BYTES

if TYPE_CHECKING:
    from edge_classifierd.web.access.admission import Access
    from edge_classifierd.web.live.viewers import Viewers
    from edge_classifierd.web.parts import Parts

_LATE_S: Final = 0.25
_REMEMBERED: Final = 60


class PageHealth:
    """Used by the page's thread."""

    def __init__(self, parts: Parts, viewers: Viewers, access: Access) -> None:
        self._parts = parts
        self._viewers = viewers
        self._access = access
        self._late_s: deque[float] = deque(maxlen=_REMEMBERED)

    def record_delay(self, late_s: float) -> None:
        """Record how much later than due the page's thread ran; the last minute counts, once a second."""
        self._late_s.append(late_s)

    def forget_delays(self) -> None:
        """Forget what was recorded, because no more follows."""
        self._late_s.clear()

    def document(self) -> dict[str, Any] | None:
        """Return the health document; None in the daemon's first second."""
        health = self._parts.health.document()
        if health is None:
            return None
        pictures = self._parts.records.pictures
        page = {"viewers": self._viewers.count, "sessions": self._access.sessions, "reasons": self._reasons()}
        store = {"bytes": pictures.size, "pictures": pictures.count, "most_bytes": MOST_BYTES}
        return {**document(health), "web": page, "store": store}

    def _reasons(self) -> list[str]:
        late_s = max(self._late_s, default=0.0)
        if late_s <= _LATE_S:
            return []
        return [f"the page is slow: in the last minute it answered up to {late_s:.1f} s late, the device is busy"]
