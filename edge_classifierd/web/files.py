"""The page's own files: read once at start, compressed in memory, and served with validators."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from edge_classifierd import __version__
from edge_classifierd.web.route import PageRoute, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_INDEX: Final = "index.html"
_BUILD_MARK: Final = b"__BUILD__"
_LEAST_COMPRESSED: Final = 500
_COMMENT_LINE: Final = re.compile(rb"^[ \t]*(?://.*|/\*\*.*\*/)\n", re.MULTILINE)
"""A line of a script that is only a comment. They are a twelfth of what the browser would load."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str


class PageFiles:
    """The files of a folder. The list is fixed at start: no text of a client becomes part of a path."""

    def __init__(self, folder: Path) -> None:
        """Read the files. The text `__BUILD__` in them is replaced by `build`."""
        contents = {
            path.name: path.read_bytes()
            for path in sorted(folder.glob("*"))
            if path.is_file() and path.suffix in _TYPES
        }
        digest = hashlib.sha256(__version__.encode())
        for name, content in contents.items():
            digest.update(name.encode() + b"\0" + content)
        self.build: Final = digest.hexdigest()[:12]
        """Changes with the files and the version of the daemon."""
        self._files = {name: self._load(name, content) for name, content in contents.items()}

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of the files."""
        return (
            PageRoute("GET", "/", self._index, public=True),
            PageRoute("GET", "/static/{file}", self._static, public=True),
        )

    def _load(self, name: str, content: bytes) -> _File:
        suffix = name[name.rindex(".") :]
        if suffix in {".html", ".css", ".js"}:
            content = content.replace(_BUILD_MARK, self.build.encode())
        if suffix == ".js":
            content = _COMMENT_LINE.sub(b"", content)
        compressed = gzip.compress(content, mtime=0) if len(content) >= _LEAST_COMPRESSED and suffix != ".png" else None
        return _File(content, compressed, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')

    async def _index(self, request: Request) -> Response:
        return self._answer(request, _INDEX)

    async def _static(self, request: Request) -> Response:
        return self._answer(request, request.path_params["file"])

    def _answer(self, request: Request, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            raise RequestError(404, "not_found", "there is no such file")
        of_build = name != _INDEX and request.query_params.get("v") == self.build
        headers = {
            "ETag": file.etag,
            "Cache-Control": "public, max-age=31536000, immutable" if of_build else "no-cache",
            "Vary": "Accept-Encoding",
        }
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if file.etag in known:
            return Response(status_code=304, headers=headers)
        content = file.content
        if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = file.compressed, "gzip"
        return Response(content, headers=headers, media_type=file.media_type)
