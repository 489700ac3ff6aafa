"""The routes of trainings: begin, progress, cancel, and the pause of the cameras meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd.teaching.training.trainer import TrainingRefusedError
from edge_classifierd.web.route import PageRoute, RequestError, client_address, json_answer, json_route, read_json
from edge_classifierd.web.teach.documents import training_document
from edge_classifierd.web.teach.taught_models import AT
from edge_classifierd.web.teach.teacher import refused, ulid_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.clock import Clock
    from edge_classifierd.teaching.training.trainer import TrainingState
    from edge_classifierd.web.live.stream import Streams
    from edge_classifierd.web.teach.teacher import Teacher

_log = logging.getLogger(__name__)

_ONE: Final = f"{AT}/trainings/{{training}}"
_EXTRACTORS: Final = ("fast", "accurate")
_REFUSALS: Final = {"busy": 409, "missing": 422, "memory": 503}
_SENT_EVERY_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 600.0


class TrainingProgress:
    """Passes the progress of trainings to open pages, at most twice a second. Called in the training's thread."""

    def __init__(self, streams: Streams, clock: Clock) -> None:
        self._streams = streams
        self._clock = clock
        self._sent: tuple[str, str, float] = ("", "", 0.0)
        self.results: Counter[str] = Counter(finished=0, failed=0, cancelled=0)
        """Number of trainings since the start, by result."""

    def report(self, state: TrainingState) -> None:
        """Send a state, unless one of the same stage was sent just now."""
        now_s = self._clock.monotonic()
        known, stage, sent_s = self._sent
        if (known, stage) == (state.id, state.stage) and now_s - sent_s < _SENT_EVERY_S:
            return
        self._sent = (state.id, state.stage, now_s)
        self._streams.send_soon("training", training_document(state))
        if not state.runs:
            self.results[state.stage] += 1
            self._streams.send_soon("taught", {"name": state.model})


class TrainingRoutes:
    """Trains models, one at a time."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            json_route("POST", f"{AT}/trainings", self._start),
            PageRoute("GET", _ONE, self._show),
            PageRoute("DELETE", _ONE, self._cancel),
            json_route("PUT", f"{_ONE}/pause", self._pause),
        )

    async def _start(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        extractor: Any = (await read_json(request)).get("extractor", "fast")
        if extractor not in _EXTRACTORS:
            sentence = f"`extractor` must be {' or '.join(_EXTRACTORS)}"
            raise RequestError(422, "value_refused", sentence, field="extractor")
        teacher = self._teacher
        if model.missing:
            raise RequestError(422, "missing", model.missing)
        pictures = await teacher.call(teacher.store.training_set, model.name)
        with refused():
            try:
                training = teacher.trainer.start(pictures, extractor)
            except TrainingRefusedError as error:
                retry_after_s = None if error.code == "missing" else 10
                status = _REFUSALS[error.code]
                raise RequestError(status, error.code, str(error), retry_after_s=retry_after_s) from error
            except RuntimeError as error:  # no more threads
                raise RequestError(503, "busy", f"no training can begin: {error}", retry_after_s=10) from error
        return json_answer({"id": training}, status=202)

    async def _show(self, request: Request) -> Response:
        return json_answer(training_document(await self._state(request)))

    async def _cancel(self, request: Request) -> Response:
        if (await self._state(request)).runs:
            self._teacher.trainer.cancel()
        return Response(status_code=204)

    async def _pause(self, request: Request) -> Response:
        training, control = await self._state(request), self._teacher.parts.control
        paused = (await read_json(request)).get("value")
        if not isinstance(paused, bool):
            raise RequestError(422, "value_refused", "`value` must be true or false", field="value")
        if paused:
            control.pause_cameras(_LONGEST_PAUSE_S)
        # A training that has ended meanwhile resumed the cameras before they were paused.
        state = self._teacher.trainer.state()
        runs = state is not None and state.id == training.id and state.runs
        if not (paused and runs):
            control.resume_cameras()
        if paused and not runs:
            raise RequestError(409, "ended", "the training has ended; the cameras go on")
        _log.info("cameras %s by the page (%s)", "paused" if paused else "resumed", client_address(request))
        return json_answer({"value": paused})

    async def _state(self, request: Request) -> TrainingState:
        model = await self._teacher.model(request)
        training, state = ulid_of(request, "training"), self._teacher.trainer.state()
        if state is None or (state.id, state.model) != (training, model.name):
            raise RequestError(404, "not_found", "there is no such training")
        return state
