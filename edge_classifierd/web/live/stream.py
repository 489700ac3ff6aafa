"""The event stream: scores, events, and changes of pipelines and health, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import timestamp
from edge_classifierd.errors import OutboxError
from edge_classifierd.events.history import EventFilter, read_events
from edge_classifierd.events.schema import encode
from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.web.live.overview import scores_document, settings_document, status_document
from edge_classifierd.web.live.reader import StreamAnswer, StreamReader
from edge_classifierd.web.route import PageRoute, RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.events.schema import Event
    from edge_classifierd.web.live.page_health import PageHealth
    from edge_classifierd.web.parts import Parts

_SCORES_EVERY_S: Final = 0.2
_LOOK_EVERY_S: Final = 1.0
_HEALTH_EVERY: Final = 5
_COMMENT_EVERY: Final = 15
_MOST_REFILLED: Final = 100
_RETRY_MS: Final = 3000


class Streams:
    """The open event streams. Used by the page's thread, except `_on_awaited`, `_on_events` and `send_soon`.

    Without a stream there is no timer, and pipelines call nothing here but `_on_events`, which returns at once.
    """

    def __init__(self, parts: Parts, health: PageHealth, build: str) -> None:
        self._parts = parts
        self._health = health
        self._build = build
        self._readers: set[StreamReader] = set()
        self._sent: dict[str, int] = {}
        self._pauses: dict[str, asyncio.TimerHandle] = {}
        self._shown: dict[tuple[str, str], dict[str, Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look_task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """Number of open streams."""
        return len(self._readers)

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the route of the stream."""
        return (PageRoute("GET", "/api/stream", self._open),)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Receive results from the pipelines."""
        self._loop = loop
        self._parts.results.on_awaited = self._on_awaited
        self._parts.results.on_events = self._on_events

    def stop(self) -> None:
        """End all streams with `bye`."""
        if self._look_task is not None:
            self._look_task.cancel()
        for reader in tuple(self._readers):
            reader.put(_message("bye", {}))
            reader.end()

    async def _open(self, request: Request) -> Response:
        if len(self._readers) >= self._parts.section.viewers + 4:
            raise RequestError(503, "too_many_streams", "too many streams are open", retry_after_s=5)
        pipeline = request.query_params.get("pipeline")
        if pipeline is not None:
            self._parts.pipeline(pipeline)
        last = request.headers.get("last-event-id") or request.query_params.get("after")
        if last is not None and not is_ulid(last):
            raise RequestError(422, "value_refused", "the last event's id must be an event_id", field="after")
        reader = StreamReader(pipeline)
        hello = {"build": self._build, "server_time": timestamp(self._parts.clock.utc())}
        first = f"retry: {_RETRY_MS}\n".encode() + _message("hello", hello)
        opened = partial(self._begin, reader, last)
        return StreamAnswer(reader, first, opened=opened, closed=partial(self._remove, reader))

    async def _begin(self, reader: StreamReader, last: str | None) -> None:
        """Begin to send to a reader, with the events after the `last` one that it has."""
        self._add(reader)
        if last is not None:
            wanted, most = EventFilter(after=last), _MOST_REFILLED
            read = partial(read_events, self._parts.records.database, wanted, limit=most, most_read=most)
            try:
                past = await asyncio.to_thread(read)
            except OutboxError:
                return  # those that come from now on are sent
            reader.refill([(one.event.event_id, _event(one.event.event_id, one.payload)) for one in reversed(past)])

    def _add(self, reader: StreamReader) -> None:
        self._readers.add(reader)
        if self._look_task is None or self._look_task.done():
            self._shown = self._documents()
            self._look_task = asyncio.get_running_loop().create_task(self._look())
        if reader.pipeline is not None:
            self._sent.pop(reader.pipeline, None)
            self._send_scores(reader.pipeline)

    def _remove(self, reader: StreamReader) -> None:
        self._readers.discard(reader)
        if not self._readers and self._look_task is not None:
            self._look_task.cancel()
            self._look_task = None
            self._parts.results.awaited.clear()
            self._health.forget_delays()

    def _on_awaited(self, pipeline: str) -> None:
        self._soon(self._send_scores, pipeline)

    def _on_events(self, events: Sequence[Event]) -> None:
        if self._readers:
            self._soon(self._send_events, events)

    def send(self, kind: str, document: dict[str, Any]) -> None:
        """Send a message to all readers."""
        if self._readers:
            self._send_all(_message(kind, document))

    def send_soon(self, kind: str, document: dict[str, Any]) -> None:
        """Send a message to all readers; any thread."""
        if self._readers:
            self._soon(self._send_all, _message(kind, document))

    def _soon(self, call: Any, argument: Any) -> None:  # noqa: ANN401 - any call with its argument
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(call, argument)

    def _send_scores(self, pipeline: str) -> None:
        """Send the newest scores if they were not sent, and look again when the next may be sent."""
        readers = [reader for reader in self._readers if reader.pipeline == pipeline]
        awaited = self._parts.results.awaited
        if not readers or pipeline in self._pauses:
            awaited.discard(pipeline)
            return
        awaited.add(pipeline)  # before looking, so that no result is missed
        document = scores_document(self._parts, pipeline)
        if document is None or document["frame"] == self._sent.get(pipeline):
            return
        awaited.discard(pipeline)
        self._sent[pipeline] = document["frame"]
        message = _message("scores", document)
        for reader in readers:
            reader.put(message)
        pause = asyncio.get_running_loop().call_later(_SCORES_EVERY_S, self._after_pause, pipeline)
        self._pauses[pipeline] = pause

    def _after_pause(self, pipeline: str) -> None:
        del self._pauses[pipeline]
        self._send_scores(pipeline)

    def _send_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._send_all(_event(event.event_id, encode(event)), event.event_id)

    def _send_all(self, message: bytes, event_id: str | None = None) -> None:
        for reader in self._readers:
            reader.put(message, event_id)

    async def _look(self) -> None:
        """Send changes of status and settings within a second, whoever made them, and health every five seconds."""
        number, loop = 0, asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _LOOK_EVERY_S
            await asyncio.sleep(_LOOK_EVERY_S)
            self._health.record_delay(loop.time() - due_s)
            now = self._documents()
            for (kind, name), document in now.items():
                if self._shown.get((kind, name)) != document:
                    self._send_all(_message(kind, document))
            self._shown = now
            number += 1
            if number % _HEALTH_EVERY == 0 and (health := self._health.document()) is not None:
                self._send_all(_message("health", health))
            if number % _COMMENT_EVERY == 0:
                self._send_all(b": still here\n\n")

    def _documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        documents: dict[tuple[str, str], dict[str, Any]] = {}
        for view in self._parts.control.view():
            documents["status", view.name] = status_document(view)
            documents["settings", view.name] = settings_document(view)
        return documents


def _event(event_id: str, payload: bytes) -> bytes:
    return b"id: " + event_id.encode() + b"\nevent: event\ndata: " + payload + b"\n\n"


def _message(kind: str, document: dict[str, Any]) -> bytes:
    content = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {content}\n\n".encode()
