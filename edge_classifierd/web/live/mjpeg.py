"""An endless MJPEG picture for other programs; the page itself fetches one picture after the other."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from edge_classifierd.web.route import RequestError, disconnected

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from edge_classifierd.web.live.preview import PreviewKind, Previews

MOST_AT_ONCE: Final = 2
_EVERY_S: Final = 0.2
_ENDS_AFTER_S: Final = 3600.0
_TIMEOUT_S: Final = 10.0
_BOUNDARY: Final = "frame"


class MjpegStreams:
    """Counts the streams. Used by the page's thread."""

    def __init__(self, previews: Previews) -> None:
        self._previews = previews
        self._open = 0

    def answer(self, kind: PreviewKind) -> Response:
        """Return a stream. Raises RequestError when there are two already."""
        if self._open >= MOST_AT_ONCE:
            sentence = f"{MOST_AT_ONCE} streams are open already"
            raise RequestError(503, "too_many_viewers", sentence, retry_after_s=30)
        return _MjpegAnswer(self, self._previews, kind)

    def opened(self, change: int) -> None:
        """Count a stream that begins (1) or ends (-1)."""
        self._open += change


class _MjpegAnswer(Response):
    """Sends at most five pictures a second, for at most an hour."""

    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"

    def __init__(self, streams: MjpegStreams, previews: Previews, kind: PreviewKind) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._streams = streams
        self._previews = previews
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - an ASGI application
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._streams.opened(1)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await self._send_pictures(gone, send)
            if not gone.done():
                await send({"type": "http.response.body", "body": f"--{_BOUNDARY}--\r\n".encode(), "more_body": False})
        finally:
            gone.cancel()
            self._streams.opened(-1)

    async def _send_pictures(self, gone: asyncio.Future[None], send: Send) -> None:
        ends_s, after = time.monotonic() + _ENDS_AFTER_S, 0
        while not gone.done() and time.monotonic() < ends_s:
            began_s = time.monotonic()
            preview = await self._previews.next(self._kind, after=after, timeout_s=_TIMEOUT_S)
            if preview is None or not preview.jpeg:
                return  # the camera is off or away
            after = preview.number
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(preview.jpeg)}\r\n\r\n"
            body = head.encode() + preview.jpeg + b"\r\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.wait({gone}, timeout=max(0.0, began_s + _EVERY_S - time.monotonic()))
