"""Access to the page: who may use which route, and the routes that sign in and out."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from edge_classifierd.web.route import PageRoute, RequestError, client_address, json_answer, json_route, read_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.web.access.login import Logins
    from edge_classifierd.web.access.session import BrowserSession, Sessions

_SIGNED_OUT: Final = "sign in first"


@dataclass(frozen=True, slots=True)
class Locked:
    """What a page with a password needs to sign people in."""

    logins: Logins
    sessions: Sessions


class Access:
    """Admits requests. Without a password everybody who can connect is admitted."""

    def __init__(self, locked: Locked | None, *, device_id: str, device_name: str) -> None:
        self._locked = locked
        self._cookie = f"ec_{device_id}"
        self._device_name = device_name

    @property
    def sessions(self) -> int:
        """Return the number of sessions that were used lately."""
        return self._locked.sessions.recent if self._locked is not None else 0

    @property
    def logins(self) -> dict[str, int]:
        """Return the number of logins by result: `ok`, `failed`, `limited`."""
        return dict(self._locked.logins.results) if self._locked is not None else {}

    async def admit(self, request: Request, route: PageRoute) -> None:
        """Identify the client of a request, and let only signed-in ones use a route that is not public.

        Sets `request.state.viewer`, by which clients are told apart. Raises RequestError.
        """
        request.state.viewer = client_address(request)
        if route.public or self._locked is None:
            admitted = self._locked is None
        elif (session := self._session(request)) is not None:
            request.state.viewer = session.id
            admitted = True
        else:
            admitted = await self._check_header(request, route, self._locked.logins)
        if admitted:
            keep = getattr(request.state, "keep_connection", None)  # see `connections`
            if keep is not None:
                keep()
        elif not route.public:
            raise RequestError(401, "signed_out", _SIGNED_OUT)

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", "/api/session", self._state, public=True),
            json_route("POST", "/api/session", self._sign_in, public=True),
            PageRoute("DELETE", "/api/session", self._sign_out),
            PageRoute("DELETE", "/api/sessions", self._sign_out_everywhere),
        )

    async def _check_header(self, request: Request, route: PageRoute, logins: Logins) -> bool:
        """Return whether the `Authorization` header opens the route. Raises RequestError for a wrong password."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        match kind.lower():
            case "basic":
                await logins.check_basic(value.strip(), client_address(request))
                return True
            case "bearer" if route.bearer is not None:
                return hmac.compare_digest(value.strip().encode(), route.bearer.encode())
            case _:
                return False

    def _session(self, request: Request) -> BrowserSession | None:
        cookie = request.cookies.get(self._cookie)
        return self._locked.sessions.read(cookie) if cookie and self._locked is not None else None

    async def _state(self, request: Request) -> Response:
        signed_in = self._locked is None or self._session(request) is not None
        return json_answer(
            {
                "signed_in": signed_in,
                "password_required": self._locked is not None,
                "device_name": self._device_name,
            }
        )

    async def _sign_in(self, request: Request) -> Response:
        document = await read_json(request)
        password, stay = document.get("password"), document.get("stay", False)
        if not isinstance(password, str) or not isinstance(stay, bool):
            sentence = "`password` must be text and `stay` true or false"
            raise RequestError(422, "value_refused", sentence, field="password")
        response = Response(status_code=204)
        if self._locked is not None:
            await self._locked.logins.check(password, client_address(request))
            value, age_s = self._locked.sessions.make(stay=stay)
            self._set_cookie(request, response, value, age_s if stay else None)
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = Response(status_code=204)
        session = self._session(request)
        if session is not None and self._locked is not None:
            self._locked.sessions.end(session)
            self._set_cookie(request, response, "", 0)
        return response

    async def _sign_out_everywhere(self, request: Request) -> Response:
        response = Response(status_code=204)
        if self._locked is not None:
            self._locked.sessions.end_all()
            self._set_cookie(request, response, "", 0)
        return response

    def _set_cookie(self, request: Request, response: Response, value: str, age_s: int | None) -> None:
        """Set the session's cookie. It has no Path: a browser returns it only below this address's `…/api/`."""
        age = "" if age_s is None else f"; Max-Age={age_s}"
        https = request.scope["scheme"] == "https" or request.headers.get("origin", "").startswith("https:")
        secure = "; Secure" if https else ""
        response.headers["Set-Cookie"] = f"{self._cookie}={value}{age}; HttpOnly; SameSite=Strict{secure}"
