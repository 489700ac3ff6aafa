"""All routes of this package."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.teaching.recorder import Recorder
from edge_classifierd.teaching.store import TeachingStore
from edge_classifierd.teaching.training.trainer import Trainer
from edge_classifierd.teaching.training.versions import Versions
from edge_classifierd.web.metrics import TeachingFigures
from edge_classifierd.web.teach.corrections import Corrections
from edge_classifierd.web.teach.documents import recording_document, training_document
from edge_classifierd.web.teach.export import ExportRoutes
from edge_classifierd.web.teach.pictures import TaughtPictureRoutes
from edge_classifierd.web.teach.recordings import RecordingRoutes
from edge_classifierd.web.teach.taught_models import TaughtModelRoutes
from edge_classifierd.web.teach.teacher import Teacher
from edge_classifierd.web.teach.trainings import TrainingProgress, TrainingRoutes
from edge_classifierd.web.teach.versions import TaughtVersionRoutes

if TYPE_CHECKING:
    from edge_classifierd.teaching.recorder import RecordingState
    from edge_classifierd.teaching.records import TaughtModel
    from edge_classifierd.teaching.training.trainer import TrainingState
    from edge_classifierd.web.command_routes import CommandRoutes
    from edge_classifierd.web.live.stream import Streams
    from edge_classifierd.web.parts import Parts
    from edge_classifierd.web.route import PageRoute


_STOP_S: Final = 0.3


class TeachPages:
    """Teaching on the page: makes its parts and ends them."""

    def __init__(self, parts: Parts, streams: Streams, commands: CommandRoutes) -> None:
        """Removes what an interrupted training left; nothing else is read or written before the first request."""
        self._commands = commands

        def recorded(state: RecordingState) -> None:
            streams.send_soon("recording", recording_document(state))
            if state.ended is not None:
                streams.send_soon("taught", {"name": state.model})

        def trained(state: TrainingState) -> None:
            if not state.runs:
                parts.control.resume_cameras()
            self.progress.report(state)

        self._store = TeachingStore(parts.state, parts.clock)
        self._recorder = Recorder(self._store, parts.tap, parts.clock, recorded)
        self.progress = TrainingProgress(streams, parts.clock)
        versions = Versions(parts.state)
        self.trainer = Trainer(versions, parts.clock, trained)
        self.teacher = Teacher(parts, self._store, self._recorder, versions, self.trainer, streams)
        self.corrections = Corrections(self.teacher)

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes."""
        teacher = self.teacher
        return (
            *TaughtModelRoutes(teacher).routes(),
            *TaughtPictureRoutes(teacher).routes(),
            *ExportRoutes(teacher).routes(),
            *RecordingRoutes(teacher).routes(),
            *TrainingRoutes(teacher).routes(),
            *TaughtVersionRoutes(teacher, self._commands).routes(),
        )

    @property
    def training(self) -> dict[str, Any] | None:
        """Return the training that runs."""
        state = self.trainer.state()
        return training_document(state) if state is not None and state.runs else None

    async def figures(self) -> TeachingFigures:
        """Return the figures for the metrics; no pictures when the store cannot be read."""
        state = self.trainer.state()
        models: tuple[TaughtModel, ...] = ()
        with contextlib.suppress(EdgeClassifierError):
            models = await asyncio.to_thread(self._store.models)
        pictures = {one.name: one.to_sort + sum(each.pictures for each in one.classes) for one in models}
        return TeachingFigures(state is not None and state.runs, dict(self.progress.results), pictures)

    def stop(self) -> None:
        """End what runs."""
        self._recorder.stop(_STOP_S)
        self.trainer.close(_STOP_S)
        self._store.close()
