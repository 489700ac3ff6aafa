"""The types of a route, and the errors and answers that all routes share."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive

    Handler = Callable[[Request], Awaitable[Response]]

MOST_JSON_BYTES: Final = 64_000
_BODY_TIMEOUT_S: Final = 10.0


class RequestError(Exception):
    """A request that is refused. `code` is stable and for programs; the sentence is for people and may change."""

    def __init__(
        self,
        status: int,
        code: str,
        sentence: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s
        self.problems = problems

    def answer(self) -> Response:
        """Return the answer to the client."""
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.field is not None:
            error["field"] = self.field
        if self.problems:
            error["problems"] = list(self.problems)
        headers = {} if self.retry_after_s is None else {"Retry-After": str(max(1, round(self.retry_after_s)))}
        return json_answer({"error": error}, status=self.status, headers=headers)


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One route: a method and a path whose `{name}` and `{name}.jpg` segments match text without a slash."""

    method: str
    path: str
    handle: Handler
    public: bool = False
    """Whether it answers without a session."""
    most_bytes: int = 0
    """Maximum size of the body."""
    content_types: tuple[str, ...] = ("application/json",)
    """Allowed types of the body, of a route with one."""
    bearer: str | None = None
    """A token that opens this route alone (`Authorization: Bearer …`)."""


def json_route(method: str, path: str, handle: Handler, *, public: bool = False) -> PageRoute:
    """Return a route with a JSON body, which `read_json` reads."""
    return PageRoute(method, path, handle, public=public, most_bytes=MOST_JSON_BYTES)


def json_answer(
    document: Mapping[str, Any] | list[Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a document as UTF-8 JSON."""
    content = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(content, status, headers, media_type="application/json")


async def read_body(request: Request, most_bytes: int, timeout_s: float = _BODY_TIMEOUT_S) -> bytes:
    """Return the body of a request.

    Raises:
        RequestError: It is larger than `most_bytes`, or takes longer than `timeout_s`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise too_large(most_bytes)
    except TimeoutError:
        raise RequestError(408, "timeout", f"the body was not complete after {timeout_s:g} s") from None
    except ClientDisconnect:
        raise RequestError(400, "malformed", "the connection was closed before the body was complete") from None
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the body of a request, a JSON object of at most 64 kB. Raises RequestError."""
    body = await read_body(request, MOST_JSON_BYTES)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "malformed", "the body must be JSON") from None
    if not isinstance(document, dict):
        raise RequestError(400, "malformed", "the body must be a JSON object")
    return document


async def disconnected(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def too_large(most_bytes: int) -> RequestError:
    """Return the error for a body above its limit."""
    return RequestError(413, "too_large", f"the body may have at most {most_bytes:,} bytes")


def client_address(request: Request) -> str:
    """Return the IP address of the client."""
    return request.client.host if request.client is not None else "unknown"


def query_number(request: Request, name: str, default: int, *, least: int = 0, most: int) -> int:
    """Return a whole number of the query. Raises RequestError when it is not one, or outside the limits."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and least <= int(text) <= most):
        sentence = f"`{name}` must be a whole number between {least} and {most}"
        raise RequestError(422, "value_refused", sentence, field=name)
    return int(text)
