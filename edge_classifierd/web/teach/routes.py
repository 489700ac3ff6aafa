"""All routes of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.teaching.recorder import Recorder
from edge_classifierd.teaching.store import TeachingStore
from edge_classifierd.web.teach.documents import recording_document
from edge_classifierd.web.teach.pictures import TaughtPictureRoutes
from edge_classifierd.web.teach.recordings import RecordingRoutes
from edge_classifierd.web.teach.taught_models import TaughtModelRoutes
from edge_classifierd.web.teach.teacher import Teacher

if TYPE_CHECKING:
    from edge_classifierd.teaching.recorder import RecordingState
    from edge_classifierd.web.live.stream import Streams
    from edge_classifierd.web.parts import Parts
    from edge_classifierd.web.route import PageRoute


_STOP_S: Final = 0.3


class TeachPages:
    """Teaching on the page: makes its parts and ends them."""

    def __init__(self, parts: Parts, streams: Streams) -> None:
        """Nothing is read or written before the first request."""

        def recorded(state: RecordingState) -> None:
            streams.send_soon("recording", recording_document(state))
            if state.ended is not None:
                streams.send_soon("taught", {"name": state.model})

        self._store = TeachingStore(parts.state, parts.clock)
        self._recorder = Recorder(self._store, parts.tap, parts.clock, recorded)
        self.teacher = Teacher(parts, self._store, self._recorder, streams)

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes."""
        groups = (TaughtModelRoutes(self.teacher), TaughtPictureRoutes(self.teacher), RecordingRoutes(self.teacher))
        return tuple(route for group in groups for route in group.routes())

    def stop(self) -> None:
        """End what runs."""
        self._recorder.stop(_STOP_S)
        self._store.close()
