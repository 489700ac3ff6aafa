"""The route that exports the pictures of a taught model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse

from edge_classifierd.web.route import PageRoute, RequestError
from edge_classifierd.web.teach.taught_models import AT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from edge_classifierd.web.teach.teacher import Teacher

_MOST_AT_ONCE = 2


class ExportRoutes:
    """Sends the archive while it is made; nothing is written to the disk. Two at a time."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._running = 0

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the route of this module."""
        return (PageRoute("GET", f"{AT}/export.zip", self._export),)

    async def _export(self, request: Request) -> Response:
        model = await self._teacher.model(request)
        if self._running >= _MOST_AT_ONCE:
            sentence = f"{_MOST_AT_ONCE} exports are running already"
            raise RequestError(503, "busy", sentence, retry_after_s=10)
        parts = await self._teacher.call(self._teacher.store.export, model.name)
        headers = {"Content-Disposition": f'attachment; filename="{model.name}.zip"'}
        return StreamingResponse(self._counted(parts), headers=headers, media_type="application/zip")

    def _counted(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        self._running += 1
        try:
            yield from parts
        finally:
            self._running -= 1
