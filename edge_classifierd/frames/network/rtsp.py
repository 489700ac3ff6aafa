"""Explains why a camera refuses a stream, because FFmpeg reports only some of the statuses and logins."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlunsplit

from edge_classifierd.config.sections.camera_addresses import split_address
from edge_classifierd.frames.network.http_client import authorisation, shown_names

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from email.message import Message
    from io import BufferedReader
    from urllib.parse import SplitResult

_PORTS: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_MOST_BYTES: Final = 65_536
_FFMPEG_ALGORITHMS: Final = ("MD5", "MD5-SESS")
_TRANSPORTS: Final = {
    "tcp": "RTP/AVP/TCP;unicast;interleaved=0-1",
    "udp": "RTP/AVP;unicast;client_port=50000-50001",
}
_TOO_MANY: Final = "too many may be watching it, or it is still starting: close another viewer"
_REMEDIES: Final = {
    403: "check the account's rights on the camera",
    404: "check the path in the address",
    453: _TOO_MANY,
    454: "its limit of sessions may be reached: close another viewer, or restart the camera",
    461: "set `transport: udp`, or tcp",
    503: _TOO_MANY,
}
_UNSUPPORTED: Final = frozenset({405, 406, 415, 451, *range(455, 463), 501, 505, 551})
"""Statuses of a camera that does not support the request (RFC 2326, 11)."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    headers: Message
    body: str

    @property
    def refused(self) -> bool:
        return self.status >= 300

    @property
    def challenges(self) -> list[str]:
        return self.headers.get_all("WWW-Authenticate") or []


def explain_refusal(
    url: str, transport: str, timeout_s: float, *, context: ssl.SSLContext | None, logs_in: bool
) -> str | None:
    """Repeat the request and return the words of a message; None when the camera does not refuse it this time.

    Args:
        url: An address of RTSP or HTTP.
        transport: That of RTSP, tcp or udp.
        timeout_s: Time that the camera has to answer each request.
        context: For rtsps and https.
        logs_in: Send the login. A wrong one should not be sent again, because cameras lock accounts.
    """
    parts = split_address(url)
    if parts.username is None and not logs_in:
        return f"401 unauthorised; put the user name and password into the address ({parts.scheme}://USER:PASSWORD@…)"
    try:
        answer = _refusal(parts, transport, timeout_s, context, logs_in=logs_in)
    except (OSError, ValueError, http.client.HTTPException):
        return None
    if answer is None:
        return None
    if answer.status == 401:
        return None if logs_in else _explain_login(answer.challenges)
    if 300 <= answer.status < 400:
        remedy = "give the address that it redirects to"
    elif answer.status in _UNSUPPORTED:
        remedy = "the camera does not support this request: set another `transport`, or give another of its addresses"
    else:
        remedy = _REMEDIES.get(answer.status, "check the address and the camera")
    return f"{answer.status} {shown_names(answer.reason)[:60]}".rstrip() + f"; {remedy}"


def _answered(challenges: list[str]) -> list[str]:
    """Return the challenge that FFmpeg answers: the last with Digest, or else the last (libavformat/httpauth.c)."""
    return ([one for one in challenges if one.lower().startswith("digest")] or challenges)[-1:]


def _explain_login(challenges: list[str]) -> str:
    """FFmpeg reports a Digest algorithm that it does not support as a wrong password."""
    found = re.search(r"(?i)^digest.*\balgorithm\s*=\s*\"?([\w-]+)", "".join(_answered(challenges)))
    if found is None or found[1].upper() in _FFMPEG_ALGORITHMS:
        return "401 unauthorised; check the user name and password in the address"
    return (
        f"401 unauthorised; the camera asks for Digest with {shown_names(found[1])}, which works only for JPEG over "
        "HTTP; set the camera to Digest with MD5 alone, or to Basic"
    )


def _refusal(
    parts: SplitResult, transport: str, timeout_s: float, context: ssl.SSLContext | None, *, logs_in: bool
) -> _Answer | None:
    """Send the requests that FFmpeg sends, up to the first that is refused; return that answer."""
    host = parts.hostname or ""
    with contextlib.ExitStack() as stack:
        connection = socket.create_connection((host, parts.port or _PORTS[parts.scheme]), timeout_s)
        stack.enter_context(connection)
        if context is not None:
            connection = stack.enter_context(context.wrap_socket(connection, server_hostname=host))
        conversation = _Conversation(connection, stack.enter_context(connection.makefile("rb")), parts, logs_in=logs_in)
        if parts.scheme.startswith("http"):
            path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
            answer = conversation.ask("GET", path, {"Host": _server(parts)})
            return answer if answer.refused else None
        return _rtsp_refusal(conversation, parts._replace(netloc=_server(parts)).geturl(), transport)


def _rtsp_refusal(conversation: _Conversation, url: str, transport: str) -> _Answer | None:
    answer = conversation.ask("OPTIONS", url, {})
    if not answer.refused:
        answer = conversation.ask("DESCRIBE", url, {"Accept": "application/sdp"})
    if not answer.refused:
        track = re.search(r"(?ms)^m=video(?:(?!^m=).)*?^a=control:(\S+)", answer.body)
        target = track[1] if track else url
        if "://" not in target:
            target = f"{answer.headers.get('Content-Base', url).rstrip('/')}/{target}"
        answer = conversation.ask("SETUP", target, {"Transport": _TRANSPORTS[transport]})
    if not answer.refused:
        session = {"Session": answer.headers.get("Session", "").partition(";")[0]}
        answer = conversation.ask("PLAY", url, session)
        with contextlib.suppress(OSError):
            conversation.send("TEARDOWN", url, session)
    return answer if answer.refused else None


class _Conversation:
    """Requests over one connection."""

    def __init__(
        self, connection: socket.socket, answers: BufferedReader, parts: SplitResult, *, logs_in: bool
    ) -> None:
        self._connection = connection
        self._answers = answers
        self._protocol = "HTTP/1.1" if parts.scheme.startswith("http") else "RTSP/1.0"
        self._login = unquote(parts.username or ""), unquote(parts.password or "")
        self._logs_in = logs_in and parts.username is not None
        self._challenges: list[str] = []
        self._number = 0

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> _Answer:
        """Send a request, with a login when asked for one, and return the answer."""
        self.send(method, target, headers)
        answer = self._receive()
        if answer.status == 401 and self._logs_in:
            self._challenges = _answered(answer.challenges)
            self.send(method, target, headers)
            answer = self._receive()
        return answer

    def send(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Send a request."""
        self._number += 1
        lines = {"CSeq": str(self._number), **headers}
        if self._challenges:
            lines["Authorization"] = authorisation(self._challenges, method, target, *self._login)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._connection.sendall(f"{method} {target} {self._protocol}\r\n{head}\r\n".encode())

    def _receive(self) -> _Answer:
        _, status, *reason = self._answers.readline(_MOST_BYTES).decode("latin-1").split(maxsplit=2)
        headers = http.client.parse_headers(self._answers)
        length = int(headers.get("Content-Length", "0"))
        body = self._answers.read(max(0, min(length, _MOST_BYTES)))
        return _Answer(int(status), "".join(reason).strip(), headers, body.decode("latin-1"))


def _server(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
