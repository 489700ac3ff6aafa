"""The routes of taught models and their classes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd.teaching.records import NotTaughtError
from edge_classifierd.web.route import PageRoute, RequestError, client_address, json_answer, json_route, read_json
from edge_classifierd.web.teach.documents import class_document, model_document
from edge_classifierd.web.teach.progress import taught_progress
from edge_classifierd.web.teach.teacher import class_of, text_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.teaching.records import TaughtModel
    from edge_classifierd.web.teach.teacher import Teacher

_log = logging.getLogger(__name__)

AT: Final = "/api/taught/{model}"
_MODEL_KEYS: Final = frozenset({"name", "pipeline"})


class TaughtModelRoutes:
    """Makes, renames and removes models and classes."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", "/api/taught", self._models),
            json_route("POST", "/api/taught", self._create),
            PageRoute("GET", AT, self._model),
            json_route("PATCH", AT, self._change),
            PageRoute("DELETE", AT, self._delete),
            json_route("POST", f"{AT}/classes", self._add_class),
            json_route("PATCH", f"{AT}/classes/{{class}}", self._rename_class),
            PageRoute("DELETE", f"{AT}/classes/{{class}}", self._remove_class),
            PageRoute("DELETE", f"{AT}/bin", self._empty_bin),
        )

    async def _models(self, _request: Request) -> Response:
        models = await self._teacher.call(self._teacher.store.models)
        return json_answer([await self._document(model) for model in models])

    async def _create(self, request: Request) -> Response:
        document = await read_json(request)
        name, pipeline = text_of(document, "name"), self._pipeline(document)
        model = await self._teacher.call(self._teacher.store.create, name, pipeline)
        _log.info("taught model %s: made by the page (%s)", model.name, client_address(request))
        self._teacher.changed(model.name)
        return json_answer(await self._document(model), status=201)

    async def _model(self, request: Request) -> Response:
        return json_answer(await self._document(await self._teacher.model(request)))

    async def _change(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        document = await read_json(request)
        if not document or not set(document) <= _MODEL_KEYS:
            raise RequestError(422, "value_refused", "the body may have `name` and `pipeline`")
        name = text_of(document, "name") if "name" in document else model.name
        store = self._teacher.store
        if "pipeline" in document:
            await self._teacher.call(store.set_pipeline, model.name, self._pipeline(document))
        if name != model.name:
            self._refuse_while_used(model)
            await self._teacher.call(store.rename, model.name, name)
            self._teacher.changed(model.name)
        self._teacher.changed(name)
        return json_answer(await self._document(await self._teacher.call(store.model, name)))

    async def _delete(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        self._refuse_while_used(model)
        await self._teacher.call(self._teacher.store.delete, model.name)
        _log.info("taught model %s: deleted by the page (%s)", model.name, client_address(request))
        self._teacher.changed(model.name)
        return Response(status_code=204)

    async def _add_class(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        name = text_of(await read_json(request), "name")
        added = await self._teacher.call(self._teacher.store.add_class, model.name, name)
        self._teacher.changed(model.name)
        return json_answer(class_document(added), status=201)

    async def _rename_class(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        one = class_of(model, request.path_params["class"])
        name = text_of(await read_json(request), "name")
        await self._teacher.call(self._teacher.store.rename_class, model.name, one.id, name)
        model = await self._teacher.model(request)
        names = {each.slug: each.name for each in model.classes}
        with contextlib.suppress(NotTaughtError):  # it has no versions yet
            await asyncio.to_thread(self._teacher.versions.rename_classes, model.name, names)
        self._teacher.changed(model.name)
        return json_answer(class_document(class_of(model, one.id)))

    async def _remove_class(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        one = class_of(model, request.path_params["class"])
        step = await self._teacher.call(self._teacher.store.remove_class, model.name, one.id)
        self._teacher.changed(model.name)
        return json_answer({"step": step})

    async def _empty_bin(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        removed = await self._teacher.call(self._teacher.store.empty_bin, model.name)
        self._teacher.changed(model.name)
        return json_answer({"removed": removed})

    async def _document(self, model: TaughtModel) -> dict[str, Any]:
        progress = await self._teacher.call(taught_progress, self._teacher.store, self._teacher.versions, model)
        return model_document(model, progress, self._teacher.used_by(model.name), self._teacher.trainer.state())

    def _pipeline(self, document: dict[str, Any]) -> str | None:
        """Return the pipeline that a body names, if any. Raises RequestError when there is none of this name."""
        if document.get("pipeline") is None:
            return None
        return self._teacher.parts.pipeline(text_of(document, "pipeline")).name

    def _refuse_while_used(self, model: TaughtModel) -> None:
        """Raise RequestError while pipelines use a model, or it is being trained."""
        training = self._teacher.trainer.state()
        if training is not None and training.runs and training.model == model.name:
            raise RequestError(409, "busy", f"{model.name} is being trained; cancel the training first")
        used_by = self._teacher.used_by(model.name)
        if used_by:
            sentence = f"{model.name} is used by {', '.join(used_by)}; give it another model first"
            raise RequestError(409, "in_use", sentence)
