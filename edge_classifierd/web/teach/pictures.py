"""The routes of the pictures of a taught model: lists, files, uploads, moves and undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.teaching.records import BIN, TO_SORT
from edge_classifierd.web.route import (
    PageRoute,
    RequestError,
    json_answer,
    json_route,
    query_number,
    read_body,
    read_json,
)
from edge_classifierd.web.teach.documents import picture_document
from edge_classifierd.web.teach.taught_models import AT
from edge_classifierd.web.teach.teacher import class_of, ulid_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.teaching.records import TaughtModel
    from edge_classifierd.web.teach.teacher import Teacher

MOST_PICTURE_BYTES: Final = 8_000_000
MOST_MOVED: Final = 500
_PICTURE_TYPES: Final = ("image/jpeg", "image/png", "image/webp")
_UPLOADS_AT_ONCE: Final = 2
_UPLOAD_TIMEOUT_S: Final = 60.0
_MOST_TAKEN: Final = 50
_MOST_LISTED: Final = 500
_MOST_STEP: Final = 10**15


class TaughtPictureRoutes:
    """Shows, takes and moves pictures."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._uploads = 0

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        upload = PageRoute(
            "POST", f"{AT}/pictures", self._upload, most_bytes=MOST_PICTURE_BYTES, content_types=_PICTURE_TYPES
        )
        return (
            PageRoute("GET", f"{AT}/pictures", self._list),
            PageRoute("GET", f"{AT}/pictures/{{picture}}.jpg", self._jpeg),
            upload,
            PageRoute("POST", f"{AT}/collected", self._take_collected),
            json_route("POST", f"{AT}/moves", self._move),
            json_route("POST", f"{AT}/undo", self._undo),
        )

    async def _list(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        place = _place(model, request.query_params.get("class", TO_SORT), "class")
        limit = query_number(request, "limit", 200, least=1, most=_MOST_LISTED)
        after = request.query_params.get("after") or None
        if after is not None and not is_ulid(after):
            raise RequestError(422, "value_refused", "`after` must be the id of a picture", field="after")
        store = self._teacher.store
        found = await self._teacher.call(store.pictures, model.name, place, after=after, limit=limit)
        return json_answer([picture_document(one) for one in found])

    async def _jpeg(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        picture = ulid_of(request, "picture")
        size = request.query_params.get("size", "full")
        if size not in {"full", "thumb"}:
            raise RequestError(422, "value_refused", "`size` must be full or thumb", field="size")
        jpeg = await self._teacher.call(self._teacher.store.jpeg, model.name, picture, thumb=size == "thumb")
        if jpeg is None:
            raise RequestError(404, "not_found", "there is no such picture")
        tag = f'"{picture}"'  # the pixels of a picture never change
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(jpeg, headers=headers, media_type="image/jpeg")

    async def _upload(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        place = _place(model, request.query_params.get("class", TO_SORT), "class")
        if place == BIN:
            raise RequestError(422, "value_refused", "`class` must be a class or to_sort", field="class")
        if self._uploads >= _UPLOADS_AT_ONCE:
            sentence = f"{_UPLOADS_AT_ONCE} pictures are being uploaded already"
            raise RequestError(503, "busy", sentence, retry_after_s=1)
        self._uploads += 1
        try:
            body = await read_body(request, MOST_PICTURE_BYTES, timeout_s=_UPLOAD_TIMEOUT_S)
            added = await self._teacher.keep(
                model.name,
                class_id=None if place == TO_SORT else place,
                picture=body,
                source="upload",
                captured=self._teacher.parts.clock.utc(),
            )
        finally:
            self._uploads -= 1
        if not added.kept:
            return json_answer({"kept": False, "like": added.like})
        self._teacher.changed(model.name)
        return json_answer({"kept": True, "id": added.id, "step": added.step}, status=201)

    async def _take_collected(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        if model.pipeline is None:
            return json_answer({"taken": 0, "left": 0})
        section = self._teacher.parts.pipeline(model.pipeline).plan.section
        folder = section.collect.path / section.name
        taken, left = await self._teacher.collect(model.name, section.name, folder, _MOST_TAKEN)
        if taken:
            self._teacher.changed(model.name)
        return json_answer({"taken": taken, "left": left})

    async def _move(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        document = await read_json(request)
        pictures = document.get("pictures")
        if (
            not isinstance(pictures, list)
            or not 1 <= len(pictures) <= MOST_MOVED
            or not all(isinstance(one, str) and is_ulid(one) for one in pictures)
        ):
            sentence = f"`pictures` must be a list of 1 to {MOST_MOVED} ids"
            raise RequestError(422, "value_refused", sentence, field="pictures")
        place = _place(model, document.get("to"), "to")
        step = await self._teacher.call(self._teacher.store.move, model.name, pictures, place)
        self._teacher.changed(model.name)
        return json_answer({"step": step})

    async def _undo(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        step = (await read_json(request)).get("step")
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= _MOST_STEP:
            raise RequestError(422, "value_refused", "`step` must be the number of a step", field="step")
        await self._teacher.call(self._teacher.store.undo, model.name, step)
        self._teacher.changed(model.name)
        return json_answer({"step": step})


def _place(model: TaughtModel, value: Any, field: str) -> str:  # noqa: ANN401 - any value that a client sends
    """Return the id of a class, `to_sort` or `bin`. Raises RequestError."""
    if value in (TO_SORT, BIN):
        return str(value)
    if not isinstance(value, str):
        raise RequestError(422, "value_refused", f"`{field}` must be a class, to_sort or bin", field=field)
    return class_of(model, value).id
