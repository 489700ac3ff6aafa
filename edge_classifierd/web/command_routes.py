"""The routes that change something: switch, region, threshold, pictures and reload, as commands over MQTT do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.mqtt.commands import (
    Command,
    LookNow,
    RefusedError,
    Reload,
    SetEnabled,
    SetModel,
    SetRegion,
    SetThreshold,
    TakePicture,
    read_region,
)
from edge_classifierd.pipeline.planning.plan import configured_region
from edge_classifierd.web.limits import TokenBucket
from edge_classifierd.web.live.live_routes import delivering
from edge_classifierd.web.live.overview import region_document, top_document
from edge_classifierd.web.route import PageRoute, RequestError, client_address, json_answer, json_route, read_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.decision.types import WatchRule
    from edge_classifierd.pipeline.observation.control import CommandOutcome, PipelineView
    from edge_classifierd.preprocess import Region
    from edge_classifierd.web.live.preview import Previews
    from edge_classifierd.web.parts import Parts

_log = logging.getLogger(__name__)

_CHANGES_PER_S: Final = 20
_BURST: Final = 40
_TIMEOUT_S: Final = 10.0
_MODEL_TIMEOUT_S: Final = 30.0
_RELOAD_TIMEOUT_S: Final = 120.0


class CommandRoutes:
    """Validates values, gives them to the daemon's main thread and waits until they are in effect."""

    def __init__(self, parts: Parts, previews: Previews) -> None:
        self._parts = parts
        self._previews = previews
        self.changes = TokenBucket(_BURST, 1 / _CHANGES_PER_S, parts.clock)
        self._trying = asyncio.Lock()

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        at = "/api/pipelines/{pipeline}"

        return (
            json_route("PUT", f"{at}/enabled", self._set_enabled),
            json_route("PUT", f"{at}/region", self._set_region),
            json_route("PUT", f"{at}/model", self._set_model),
            json_route("PUT", f"{at}/watches/{{watch}}/threshold", self._set_threshold),
            json_route("POST", f"{at}/try", self._try),
            json_route("POST", f"{at}/snapshot", self._take_picture),
            json_route("POST", f"{at}/look", self._look_now),
            json_route("POST", "/api/reload", self._reload),
        )

    async def _set_enabled(self, request: Request) -> Response:
        view = self._view(request)
        value = await _value(request)
        if value is not None and not isinstance(value, bool):
            raise _refused("`value` must be true, false or null")
        await self.execute(SetEnabled(view.name, value))
        now = self._view(request)
        self.log(request, "switch", view.name, view.enabled, now.enabled)
        return _changed(now.enabled, configured=True, overridden=now.commands.enabled is not None)

    async def _set_region(self, request: Request) -> Response:
        view = self._view(request)
        value = await _value(request)
        await self.execute(SetRegion(view.name, None if value is None else _region(value)))
        now = self._view(request)
        configured = region_document(configured_region(now.plan))
        before, after = _region_of(view), _region_of(now)
        self.log(request, "region", view.name, before, after)
        return _changed(after, configured=configured, overridden=now.commands.region is not None)

    async def _set_threshold(self, request: Request) -> Response:
        view = self._view(request)
        rule = _rule(view, request.path_params["watch"])
        value = await _value(request)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _refused("`value` must be a number above 0 and at most 1, or null")
        await self.execute(SetThreshold(view.name, rule.name, value))
        now = self._view(request)
        commanded, before = now.commands.thresholds, view.commands.thresholds.get(rule.name, rule.threshold)
        after = commanded.get(rule.name, rule.threshold)
        self.log(request, f"threshold of {rule.name}", view.name, before, after)
        return _changed(after, configured=rule.threshold, overridden=rule.name in commanded)

    async def _set_model(self, request: Request) -> Response:
        view = self._view(request)
        value = await _value(request)
        name = value.get("taught") if isinstance(value, dict) and set(value) == {"taught"} else value
        if value is not None and not isinstance(name, str):
            raise _refused('`value` must be {"taught": NAME} or null')
        await self.set_model(view.name, name)
        now = self._view(request)
        before, after = view.plan.section.model.taught, now.plan.section.model.taught
        self.log(request, "taught model", view.name, before, after)
        value = None if after is None else {"taught": after}
        return json_answer({"value": value, "overridden": now.commands.model is not None})

    async def _try(self, request: Request) -> Response:
        view = self._view(request)
        document = await read_json(request)
        region = _region(document.get("region"))
        plan = delivering(view)
        if self._trying.locked():
            raise RequestError(409, "busy", "another region is being tried", retry_after_s=1)
        async with self._trying:
            frame = await self._previews.frame(view.name, timeout_s=_TIMEOUT_S)
            if frame is None:
                raise RequestError(503, "offline", "the camera delivers no frames", retry_after_s=5)
            try:
                tried = await asyncio.to_thread(self._parts.control.try_region, view.name, region, frame)
            except EdgeClassifierError as error:
                raise RequestError(503, "inference", str(error), retry_after_s=5) from error
        watches = {name: round(state.confidence, 4) for name, state in tried.watches.items()}
        return json_answer({"top": top_document(plan, tried), "watches": watches})

    async def _take_picture(self, request: Request) -> Response:
        view = self._view(request)
        delivering(view)
        await self.execute(TakePicture(view.name))
        return Response(status_code=202)

    async def _look_now(self, request: Request) -> Response:
        view = self._view(request)
        delivering(view)
        await self.execute(LookNow(view.name))
        return Response(status_code=202)

    async def _reload(self, request: Request) -> Response:
        outcome = await self.execute(Reload(), timeout_s=_RELOAD_TIMEOUT_S)
        if outcome.problems:
            sentence = "the configuration has mistakes; everything goes on as before"
            raise RequestError(422, "configuration", sentence, problems=outcome.problems)
        _log.info("reloaded by the page (%s)", client_address(request))
        return json_answer({"changed": outcome.changed})

    def _view(self, request: Request) -> PipelineView:
        return self._parts.pipeline(request.path_params["pipeline"])

    async def execute(self, command: Command, *, timeout_s: float = _TIMEOUT_S) -> CommandOutcome:
        """Execute a command. Raises RequestError when it is refused, or not executed in time."""
        wait_s = self.changes.wait_s()
        if wait_s > 0:
            raise RequestError(429, "too_many_changes", "too many changes a second", retry_after_s=wait_s)
        self.changes.take()
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(self._parts.control.submit(command))
        except RefusedError as error:
            raise _refused(str(error)) from error
        except TimeoutError:
            raise RequestError(503, "busy", "the daemon is busy; try again", retry_after_s=5) from None

    async def set_model(self, pipeline: str, name: str | None) -> None:
        """Let a pipeline use a taught model; None: the configured model. Raises RequestError when it cannot."""
        outcome = await self.execute(SetModel(pipeline, name), timeout_s=_MODEL_TIMEOUT_S)
        if outcome.problems:
            raise RequestError(422, "model_refused", outcome.problems[0], field="value")

    @staticmethod
    def log(request: Request, what: str, pipeline: str, before: object, after: object) -> None:
        """Log a change with the address of the client."""
        _log.info("%s: %s %s → %s by the page (%s)", pipeline, what, before, after, client_address(request))


async def _value(request: Request) -> Any:  # noqa: ANN401 - any JSON value, which the caller validates
    document = await read_json(request)
    if set(document) != {"value"}:
        raise RequestError(422, "value_refused", 'the body must be {"value": …}', field="value")
    return document["value"]


def _refused(sentence: str) -> RequestError:
    return RequestError(422, "value_refused", sentence, field="value")


def _changed(value: object, *, configured: object, overridden: bool) -> Response:
    return json_answer({"value": value, "configured": configured, "overridden": overridden})


def _region(document: object) -> Region:
    try:
        return read_region(document)
    except RefusedError as error:
        raise _refused(str(error)) from error


def _region_of(view: PipelineView) -> dict[str, float]:
    return region_document(view.commands.region or configured_region(view.plan))


def _rule(view: PipelineView, watch: str) -> WatchRule:
    for rule in view.plan.rules:
        if rule.name == watch:
            return rule
    raise RequestError(404, "no_watch", "there is no such watch")
