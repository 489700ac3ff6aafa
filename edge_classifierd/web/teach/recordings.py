"""The routes of recordings: begin, still held, end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from edge_classifierd.teaching.recorder import RecordingRunsError
from edge_classifierd.web.live.live_routes import PICTURE_VIEWS, delivering, view_of
from edge_classifierd.web.route import PageRoute, RequestError, json_answer, json_route, read_json
from edge_classifierd.web.teach.documents import recording_document
from edge_classifierd.web.teach.taught_models import AT
from edge_classifierd.web.teach.teacher import class_of, text_of, ulid_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.teaching.recorder import RecordingState
    from edge_classifierd.web.teach.teacher import Teacher

_ONE: Final = f"{AT}/recordings/{{recording}}"


class RecordingRoutes:
    """Records from a camera while a button is held. The recording ends 2 s after the last `PUT`."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            json_route("POST", f"{AT}/recordings", self._begin),
            PageRoute("PUT", _ONE, self._hold),
            PageRoute("DELETE", _ONE, self._end),
        )

    async def _begin(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        document = await read_json(request)
        one = class_of(model, text_of(document, "class"))
        view = self._teacher.parts.pipeline(text_of(document, "pipeline"))
        plan, shows = delivering(view), document.get("view", "region")
        if shows not in PICTURE_VIEWS:
            raise RequestError(422, "value_refused", "`view` must be full or region", field="view")
        recorder = self._teacher.recorder
        try:
            state = await self._teacher.call(recorder.begin, model.name, one.id, view.name, view_of(plan, shows))
        except RequestError as error:
            if isinstance(error.__cause__, RecordingRunsError):
                raise RequestError(409, "busy", str(error), retry_after_s=2) from None
            raise
        except RuntimeError as error:  # no more threads
            raise RequestError(503, "busy", f"the recording cannot be started: {error}", retry_after_s=5) from error
        return json_answer(recording_document(state), status=201)

    async def _hold(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        return _answer(self._teacher.recorder.held(ulid_of(request, "recording")), model.name)

    async def _end(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        recording = ulid_of(request, "recording")
        return _answer(await asyncio.to_thread(self._teacher.recorder.end, recording), model.name)


def _answer(state: RecordingState | None, model: str) -> Response:
    if state is None or state.model != model:
        raise RequestError(404, "not_found", "there is no such recording")
    return json_answer(recording_document(state))
