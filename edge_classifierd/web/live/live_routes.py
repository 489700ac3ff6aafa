"""The routes of live data: overview, pictures, history, health."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd import __version__
from edge_classifierd.clock import timestamp
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.preprocess import Region, View
from edge_classifierd.web.live.history import DAY_S
from edge_classifierd.web.live.mjpeg import MjpegStreams
from edge_classifierd.web.live.overview import pipeline_document
from edge_classifierd.web.live.preview import Preview, PreviewKind, Previews
from edge_classifierd.web.route import PageRoute, RequestError, json_answer, query_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from edge_classifierd.pipeline.observation.control import PipelineView
    from edge_classifierd.web.live.history import Interval
    from edge_classifierd.web.live.page_health import PageHealth
    from edge_classifierd.web.live.viewers import Viewers
    from edge_classifierd.web.parts import Parts

    Training = Callable[[], dict[str, Any] | None]

WIDTHS: Final = (320, 640, 960)
PICTURE_VIEWS: Final = ("full", "region")
_SNAPSHOT_WIDTH: Final = 1280
_SNAPSHOT_EVERY_S: Final = 1.0
_FRAME_TIMEOUT_S: Final = 10.0
_MOST_AFTER: Final = 10**17


class LiveRoutes:
    """Answers with the present state of the pipelines. Used by the page's thread."""

    def __init__(
        self, parts: Parts, previews: Previews, viewers: Viewers, health: PageHealth, *, build: str, training: Training
    ) -> None:
        """`training` returns the document of the training that runs."""
        self._parts = parts
        self._previews = previews
        self._viewers = viewers
        self._mjpeg_streams = MjpegStreams(previews)
        self._page_health = health
        self._build = build
        self._training = training

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", "/healthz", self._alive, public=True),
            PageRoute("GET", "/api/overview", self._overview),
            PageRoute("GET", "/api/health", self._health),
            PageRoute("GET", "/api/pipelines/{pipeline}/frame.jpg", self._frame),
            PageRoute("GET", "/api/pipelines/{pipeline}/snapshot.jpg", self._snapshot),
            PageRoute("GET", "/api/pipelines/{pipeline}/stream.mjpeg", self._mjpeg),
            PageRoute("GET", "/api/pipelines/{pipeline}/history", self._history),
        )

    async def _alive(self, _request: Request) -> Response:
        alive = self._parts.health.alive()
        return json_answer({"status": "ok" if alive else "stuck"}, status=200 if alive else 503)

    async def _overview(self, _request: Request) -> Response:
        parts = self._parts
        return json_answer(
            {
                "device": {"id": parts.device.id, "name": parts.device.name},
                "version": __version__,
                "build": self._build,
                "time": timestamp(parts.clock.utc()),
                "clock_synchronised": parts.clock.synchronised(),
                "pipelines": [pipeline_document(parts, view) for view in parts.control.view()],
                "training": self._training(),
                "viewers": {"now": self._viewers.count, "most": parts.section.viewers},
                "features": {"teach": parts.section.teach},
            }
        )

    async def _health(self, _request: Request) -> Response:
        health = self._page_health.document()
        if health is None:
            raise RequestError(503, "starting", "the daemon has just started", retry_after_s=1)
        return json_answer(health)

    async def _frame(self, request: Request) -> Response:
        width = _width(request)
        shows = request.query_params.get("view", "full")
        if shows not in PICTURE_VIEWS:
            raise RequestError(422, "value_refused", "`view` must be full or region", field="view")
        after = query_number(request, "after", 0, most=_MOST_AFTER)
        view = self._parts.pipeline(request.path_params["pipeline"])
        plan = delivering(view)
        with self._viewers.place(request.state.viewer):
            kind = PreviewKind(view.name, width, view_of(plan, shows))
            preview = await self._previews.next(kind, after=after, timeout_s=_FRAME_TIMEOUT_S)
        return _picture(preview)

    async def _snapshot(self, request: Request) -> Response:
        view = self._parts.pipeline(request.path_params["pipeline"])
        kind = PreviewKind(view.name, _SNAPSHOT_WIDTH, view_of(delivering(view), "full"), _SNAPSHOT_EVERY_S)
        preview = await self._previews.next(kind, after=0, timeout_s=_FRAME_TIMEOUT_S)
        return _picture(preview)

    async def _mjpeg(self, request: Request) -> Response:
        view = self._parts.pipeline(request.path_params["pipeline"])
        return self._mjpeg_streams.answer(PreviewKind(view.name, _width(request), view_of(delivering(view), "full")))

    async def _history(self, request: Request) -> Response:
        span_s = query_number(request, "span", 3600, least=10, most=DAY_S)
        view = self._parts.pipeline(request.path_params["pipeline"])
        clock = self._parts.clock
        now_s, now = clock.monotonic(), clock.utc()
        curves = self._parts.results.history.curves(view.name, span_s, now_s)

        def at(moment_s: float) -> str:
            return timestamp(now + timedelta(seconds=moment_s - now_s))

        return json_answer(
            {
                "step_s": curves.step_s,
                "end": at(curves.end_s),
                "watches": {name: curve.peaks for name, curve in curves.watches.items()},
                "on": {name: _intervals(curve.on, at) for name, curve in curves.watches.items()},
                "resting": _intervals(curves.resting, at),
            }
        )


def _width(request: Request) -> int:
    """Return the `width` of the query. Raises RequestError when it is not one of the offered ones."""
    width = query_number(request, "width", 640, most=max(WIDTHS))
    if width not in WIDTHS:
        sentence = f"`width` must be one of {', '.join(map(str, WIDTHS))}"
        raise RequestError(422, "value_refused", sentence, field="width")
    return width


def _intervals(known: Iterable[Interval], at: Callable[[float], str]) -> list[list[str | None]]:
    return [[at(start), None if end is None else at(end)] for start, end in known]


def delivering(view: PipelineView) -> Plan:
    """Return the plan of a pipeline whose camera delivers frames. Raises RequestError for another."""
    if not view.enabled:
        raise RequestError(409, "off", "the camera is switched off")
    if view.resting is not None and view.resting.closed:
        paused = "the cameras are paused while a model is trained"
        scheduled = "the camera is off outside the `active` times of the configuration"
        raise RequestError(409, "off", paused if view.resting.why == "training" else scheduled)
    if not view.online or not isinstance(view.plan, Plan):
        sentence = view.offline_reason or "the camera delivers no frames"
        raise RequestError(503, "offline", sentence, retry_after_s=5)
    return view.plan


def view_of(plan: Plan, shows: str) -> View:
    """Return the `region` of a camera's picture, or the `full` picture, upright."""
    view = plan.view
    return view if shows == "region" else View(view.rotation, view.mirror, Region())


def _picture(preview: Preview | None) -> Response:
    if preview is None:
        return Response(status_code=204)
    if not preview.jpeg:
        raise RequestError(503, "no_picture", "the picture cannot be encoded; see the log", retry_after_s=5)
    headers = {"X-Frame": str(preview.number), "X-Captured": timestamp(preview.captured_at)}
    return Response(preview.jpeg, headers=headers, media_type="image/jpeg")
