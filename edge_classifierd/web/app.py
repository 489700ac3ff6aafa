"""The application: finds the route of a request, and checks host, size, session and origin before it is handled."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from edge_classifierd.web.route import RequestError, client_address, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from edge_classifierd.web.access.admission import Access
    from edge_classifierd.web.access.hosts import Hosts
    from edge_classifierd.web.route import PageRoute

_log = logging.getLogger(__name__)

_SAFE: Final = frozenset({"GET", "HEAD"})
_MOST_TARGET_BYTES: Final = 2048
MOST_HEADER_BYTES: Final = 16_384
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)


class PageApplication:
    """An ASGI application of fixed routes. What is not public needs a session."""

    def __init__(self, routes: Iterable[PageRoute], hosts: Hosts, access: Access) -> None:
        self.routes = tuple(routes)
        self._hosts = hosts
        self._access = access
        self._patterns = [(route.path.split("/"), route) for route in self.routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        began_s = time.monotonic()
        pattern = "-"
        try:
            self._check_host(request)
            route, parameters = self._route(request)
            pattern = route.path
            scope["path_params"] = parameters
            self._check_size(request, route)
            await self._access.admit(request, route)
            self._check_origin(request, route)
            response = await route.handle(request)
        except RequestError as error:
            response = error.answer()
        except Exception:  # noqa: BLE001 - a bug in one route must not end the connection without an answer
            _log.exception("%s %s failed", request.method, pattern)
            response = RequestError(500, "internal", "an error of the daemon; see its log").answer()
        self._complete(request, response)
        try:
            await response(scope, receive, send)
        finally:
            took_ms = (time.monotonic() - began_s) * 1000
            address = client_address(request)
            _log.debug("%s %s %d %.0f ms %s", request.method, pattern, response.status_code, took_ms, address)

    def _check_host(self, request: Request) -> None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.allows(hosts[0]):
            sentence = "this name is not known to be of this device; add it to `web.hosts`"
            raise RequestError(421, "foreign_host", sentence)

    def _route(self, request: Request) -> tuple[PageRoute, dict[str, str]]:
        if len(request.scope["raw_path"]) + len(request.scope["query_string"]) > _MOST_TARGET_BYTES:
            raise RequestError(414, "too_long", f"an address may have at most {_MOST_TARGET_BYTES:,} bytes")
        segments = request.scope["path"].split("/")
        if sum(len(name) + len(value) + len(": \r\n") for name, value in request.scope["headers"]) > MOST_HEADER_BYTES:
            raise RequestError(431, "too_long", f"the headers may have at most {MOST_HEADER_BYTES:,} bytes")
        allowed = []
        for pattern, route in self._patterns:
            parameters = _match(pattern, segments)
            if parameters is None:
                continue
            if request.method == route.method or (request.method == "HEAD" and route.public):
                return route, parameters
            allowed.append(route.method)
        if allowed:
            raise RequestError(405, "method_not_allowed", f"allowed here are {', '.join(allowed)}")
        raise RequestError(404, "not_found", "there is nothing at this address")

    def _check_size(self, request: Request, route: PageRoute) -> None:
        """Refuse a body that is too large, or of another type, before anything of it is read."""
        length = request.headers.get("content-length", "0")
        chunked = "transfer-encoding" in request.headers
        if (chunked and not route.most_bytes) or (length.isdecimal() and int(length) > route.most_bytes):
            raise too_large(route.most_bytes)
        if chunked or length != "0":
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind not in route.content_types:
                raise RequestError(415, "content_type", f"the body must be {' or '.join(route.content_types)}")

    def _check_origin(self, request: Request, route: PageRoute) -> None:
        """Refuse a change that another page has made the browser send."""
        if route.method in _SAFE:
            return
        origin = request.headers.get("origin")
        if origin is None:
            if "authorization" not in request.headers:
                raise RequestError(403, "foreign_origin", "without Origin a change needs an Authorization header")
        elif not self._hosts.same_origin(origin, request.headers["host"]):
            raise RequestError(403, "foreign_origin", "a page of another address may not change anything here")

    @staticmethod
    def _complete(request: Request, response: Response) -> None:
        """Add the headers that every answer has."""
        headers = response.headers
        headers.setdefault("Content-Security-Policy", _POLICY)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")
        if response.status_code >= 400 and _has_body(request):
            headers["Connection"] = "close"  # the rest of the body is not read


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    """Return the values of the `{name}` and `{name}.jpg` segments; None when the path does not match."""
    if len(pattern) != len(segments):
        return None
    parameters: dict[str, str] = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            name, _, ending = expected[1:].partition("}")
            if not segment.endswith(ending):
                return None
            parameters[name] = segment.removesuffix(ending)
        elif expected != segment:
            return None
    return parameters
