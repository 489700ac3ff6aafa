"""The event stream: scores, events, and changes of pipelines and health, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from edge_classifierd.clock import timestamp
from edge_classifierd.events.schema import encode
from edge_classifierd.web.live.overview import scores_document, settings_document, status_document
from edge_classifierd.web.route import PageRoute, RequestError, disconnected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from edge_classifierd.events.schema import Event
    from edge_classifierd.web.parts import Parts

_SCORES_EVERY_S: Final = 0.2
_LOOK_EVERY_S: Final = 1.0
_HEALTH_EVERY: Final = 5
_COMMENT_EVERY_S: Final = 15.0
_MOST_WAITING: Final = 64
_RETRY_MS: Final = 3000


class Streams:
    """The open event streams. Used by the page's thread, except `_on_awaited`, `_on_events` and `send_soon`.

    Without a stream there is no timer, and pipelines call nothing here but `_on_events`, which returns at once.
    """

    def __init__(self, parts: Parts, build: str) -> None:
        self._parts = parts
        self._build = build
        self._readers: set[_StreamReader] = set()
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
        reader = _StreamReader(pipeline)
        hello = {"build": self._build, "server_time": timestamp(self._parts.clock.utc())}
        reader.put(f"retry: {_RETRY_MS}\n".encode() + _message("hello", hello))
        return _StreamAnswer(self, reader)

    def add(self, reader: _StreamReader) -> None:
        """Begin to send to a reader."""
        self._readers.add(reader)
        if self._look_task is None or self._look_task.done():
            self._shown = self._documents()
            self._look_task = asyncio.get_running_loop().create_task(self._look())
        if reader.pipeline is not None:
            self._sent.pop(reader.pipeline, None)
            self._send_scores(reader.pipeline)

    def remove(self, reader: _StreamReader) -> None:
        """Stop sending to a reader."""
        self._readers.discard(reader)
        if not self._readers and self._look_task is not None:
            self._look_task.cancel()
            self._look_task = None
            self._parts.results.awaited.clear()

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
            identified = f"id: {event.event_id}\n".encode()
            self._send_all(identified + b"event: event\ndata: " + encode(event) + b"\n\n")

    def _send_all(self, message: bytes) -> None:
        for reader in tuple(self._readers):
            reader.put(message)

    async def _look(self) -> None:
        """Send changes of status and settings within a second, whoever made them, and health every five seconds."""
        number = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._documents()
            for (kind, name), document in now.items():
                if self._shown.get((kind, name)) != document:
                    self._send_all(_message(kind, document))
            self._shown = now
            number += 1
            if number % _HEALTH_EVERY == 0 and (health := self._parts.health_document()) is not None:
                self._send_all(_message("health", health))

    def _documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        documents: dict[tuple[str, str], dict[str, Any]] = {}
        for view in self._parts.control.view():
            documents["status", view.name] = status_document(view)
            documents["settings", view.name] = settings_document(view)
        return documents


class _StreamReader:
    """What waits to be sent to one client."""

    def __init__(self, pipeline: str | None) -> None:
        self.pipeline = pipeline
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, message: bytes) -> None:
        """Add a message; a client that is too far behind is disconnected, and reads the overview again."""
        if self._queue.qsize() >= _MOST_WAITING:
            self.end()
        else:
            self._queue.put_nowait(message)

    def end(self) -> None:
        """End the stream after the messages that wait."""
        self._queue.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return all messages that wait, a comment after 15 s without one, None at the end."""
        try:
            async with asyncio.timeout(_COMMENT_EVERY_S):
                return await self._queue.get()
        except TimeoutError:
            return b": still here\n\n"


class _StreamAnswer(Response):
    """An answer that does not end by itself."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, reader: _StreamReader) -> None:
        super().__init__(headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an ASGI application
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._streams.add(self._reader)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            while not gone.done():
                message = asyncio.ensure_future(self._reader.next())
                await asyncio.wait({gone, message}, return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    message.cancel()
                    break
                if (content := message.result()) is None:
                    break
                await send({"type": "http.response.body", "body": content, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._streams.remove(self._reader)


def _message(kind: str, document: dict[str, Any]) -> bytes:
    content = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {content}\n\n".encode()
