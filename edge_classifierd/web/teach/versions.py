"""The routes of the versions of a taught model: results, files, use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import FileResponse, Response

from edge_classifierd.model.taught import MODEL_FILE
from edge_classifierd.teaching.training.versions import REPORT_FILE, VersionInUseError
from edge_classifierd.web.route import PageRoute, RequestError, json_answer, json_route, read_json
from edge_classifierd.web.teach.documents import result_document, version_document
from edge_classifierd.web.teach.taught_models import AT
from edge_classifierd.web.teach.teacher import refused, text_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.web.command_routes import CommandRoutes
    from edge_classifierd.web.teach.teacher import Teacher

_ONE: Final = f"{AT}/versions/{{version}}"
_REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
_MOST_DIGITS: Final = 9


class TaughtVersionRoutes:
    """Shows versions, puts one in use, removes one."""

    def __init__(self, teacher: Teacher, commands: CommandRoutes) -> None:
        self._teacher = teacher
        self._commands = commands

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", f"{AT}/versions", self._list),
            PageRoute("GET", _ONE, self._show),
            PageRoute("GET", f"{_ONE}/report.html", self._report),
            PageRoute("GET", f"{_ONE}/model.tflite", self._file),
            json_route("POST", f"{_ONE}/use", self._use),
            PageRoute("DELETE", _ONE, self._delete),
        )

    async def _list(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        results = await self._teacher.call(self._teacher.versions.results, model.name)
        in_use = await self._teacher.call(self._teacher.versions.in_use, model.name)
        return json_answer([version_document(one, in_use) for one in results])

    async def _show(self, request: Request) -> Response:
        model, version = await self._named(request)
        result = await self._teacher.call(self._teacher.versions.result, model, version)
        return json_answer(result_document(result, await self._teacher.call(self._teacher.versions.in_use, model)))

    async def _report(self, request: Request) -> Response:
        model, version = await self._named(request)
        file = await self._teacher.call(self._teacher.versions.file, model, version, REPORT_FILE)
        return FileResponse(file, headers={"Content-Security-Policy": _REPORT_POLICY}, media_type="text/html")

    async def _file(self, request: Request) -> Response:
        model, version = await self._named(request)
        file = await self._teacher.call(self._teacher.versions.file, model, version, MODEL_FILE)
        name = f"{model}-{version}.tflite"
        return FileResponse(file, filename=name, media_type="application/octet-stream")

    async def _use(self, request: Request) -> Response:
        model, version = await self._named(request)
        document = await read_json(request)
        pipeline = None
        if document.get("pipeline") is not None:
            pipeline = self._teacher.parts.pipeline(text_of(document, "pipeline")).name
        versions, before = self._teacher.versions, await self._teacher.call(self._teacher.versions.in_use, model)
        in_use = await self._teacher.call(versions.use, model, version)
        if pipeline is not None and pipeline not in self._teacher.used_by(model):
            try:
                await self._commands.set_model(pipeline, model)
            except RequestError:
                if before is not None:  # other pipelines may use it
                    await self._teacher.call(versions.use, model, before.version)
                raise
        self._teacher.changed(model)
        self._commands.log(request, "version in use", model, in_use.previous, version)
        return json_answer({"version": version, "previous": in_use.previous, "used_by": self._teacher.used_by(model)})

    async def _delete(self, request: Request) -> Response:
        model, version = await self._named(request)
        with refused():
            try:
                await asyncio.to_thread(self._teacher.versions.delete, model, version)
            except VersionInUseError as error:
                raise RequestError(409, "in_use", str(error)) from error
        self._teacher.changed(model)
        return Response(status_code=204)

    async def _named(self, request: Request) -> tuple[str, int]:
        """Return the model and the number of the version in a path. Raises RequestError."""
        model = await self._teacher.model(request)
        text: Any = request.path_params["version"]
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            raise RequestError(404, "not_found", "there is no such version")
        return model.name, int(text)
