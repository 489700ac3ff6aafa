"""One client of the event stream: what waits to be sent to it, and the answer that sends it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from edge_classifierd.web.route import disconnected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import Receive, Scope, Send

MOST_WAITING: Final = 64

Identified = tuple[str, bytes]
"""An `event_id` and the message of this event."""


class StreamReader:
    """The messages that wait for one client. Used by the page's thread."""

    def __init__(self, pipeline: str | None) -> None:
        """`pipeline` is the one whose scores are sent."""
        self.pipeline = pipeline
        self._waiting: deque[tuple[str | None, bytes]] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, message: bytes, event_id: str | None = None) -> None:
        """Add a message. A client that is too far behind is disconnected, and reads the overview again."""
        if len(self._waiting) >= MOST_WAITING:
            self.end()
        if not self._ended:
            self._waiting.append((event_id, message))
            self._changed.set()

    def refill(self, past: Sequence[Identified]) -> None:
        """Add past events before the messages that wait, those that wait already once."""
        known = {event_id for event_id, _ in past}
        self._waiting = deque((*past, *(one for one in self._waiting if one[0] not in known)))
        self._changed.set()

    def end(self) -> None:
        """End the stream after the messages that wait."""
        self._ended = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """Return all messages that wait, or the next one; None at the end."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        messages = b"".join(message for _, message in self._waiting)
        self._waiting.clear()
        return messages or None


class StreamAnswer(Response):
    """An answer that does not end by itself."""

    media_type = "text/event-stream"

    def __init__(
        self,
        reader: StreamReader,
        first: bytes,
        *,
        opened: Callable[[], Awaitable[None]],
        closed: Callable[[], None],
    ) -> None:
        """Make the answer.

        Args:
            reader: what is sent.
            first: what is sent before that.
            opened: called when `first` was sent.
            closed: called at the end, whatever happened.
        """
        super().__init__(headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._reader = reader
        self._first = first
        self._opened = opened
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an ASGI application
        """Send messages until the client is gone or the stream ends."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(disconnected(receive))
        gone.add_done_callback(lambda _: self._reader.end())
        try:
            content: bytes | None = self._first
            await send({"type": "http.response.body", "body": content, "more_body": True})
            await self._opened()
            while not gone.done() and (content := await self._reader.next()) is not None:
                await send({"type": "http.response.body", "body": content, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._closed()
