"""Fetches from network cameras over HTTP: basic and digest login, redirects, optional TLS verification."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import re
import socket
import ssl
from email.message import Message
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urljoin

from edge_classifierd.config.sections.camera_addresses import shown_url, split_address
from edge_classifierd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from urllib.parse import SplitResult

_MOST_REDIRECTS: Final = 5
_HASHES: Final = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
"""Digest algorithms (RFC 7616), the best first."""
_PARAMETER: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# A comma outside quotation marks: only complete quoted strings follow it.
_NEXT_CHALLENGE: Final = re.compile(
    r',\s*(?=(?:Basic|Digest|Bearer)\b)(?=(?:[^"]|"(?:[^"\\]|\\.)*")*$)', re.IGNORECASE | re.DOTALL
)
_MOST_CHALLENGE: Final = 4096

_STATUS_WORDS: Final = {
    401: "401 unauthorised; check the user name and password in the address",
    403: "403 forbidden; check the account's rights on the camera",
    404: "404 not found; check the path in the address",
}


class HttpRequest:
    """One GET request and its answer; used by one thread, except `abort`."""

    def __init__(self, url: str, *, timeout_s: float, verify: bool = False, ca_file: Path | None = None) -> None:
        """Nothing is sent before `open`. `verify` checks the server's certificate, with `ca_file` or the system's."""
        self.status = 0
        """The HTTP status: 200, or 304 after a conditional request."""
        self.headers: Message = Message()
        """The answer's headers; names in any case."""
        self._url = url
        self._shown = shown_url(url)
        self._timeout_s = timeout_s
        self._verify = verify
        self._ca_file = ca_file
        self._socket: socket.socket | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._aborted = False

    def open(self, headers: Mapping[str, str] | None = None) -> None:
        """Send the request, log in when asked to, and follow redirects. Raises SourceError."""
        origin = parts = split_address(self._url)
        login: dict[str, bytes] = {}
        redirects = answers = 0
        while True:
            self._response = response = self._get(parts, {**(headers or {}), **login})
            if response.status in {301, 302, 303, 307, 308}:
                redirects += 1
                if redirects > _MOST_REDIRECTS:
                    raise SourceError(f"{self._shown}: redirected more than {_MOST_REDIRECTS} times; check the address")
                parts, login, answers = self._redirected(parts, response), {}, 0
            elif response.status == 401 and (answers == 0 or (answers == 1 and _is_stale(response))):
                login = {"Authorization": self._login(response, origin, parts)}
                answers += 1
            elif response.status in {200, 304}:
                self.status, self.headers = response.status, response.headers
                if response.headers.get_content_maintype() == "multipart":
                    response.length = None  # endless, whatever length the camera gives
                return
            else:
                reason = "".join(one for one in response.reason if one.isprintable())[:60]
                words = _STATUS_WORDS.get(response.status, f"{response.status} {reason}; check the camera")
                raise SourceError(f"{self._shown}: {words}")
            self.close()

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes of the body, none at its end. Raises SourceError."""
        if self._response is None:
            return b""
        try:
            return self._response.read1(most)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error, opening=False) from None

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        response, self._response = self._response, None
        connection, self._connection = self._connection, None
        for one in (response, connection, self._socket):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()
        self._socket = None

    def abort(self) -> None:
        """End a blocked `open` or `receive` soon; any thread."""
        self._aborted = True
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def _get(self, parts: SplitResult, headers: Mapping[str, str | bytes]) -> http.client.HTTPResponse:
        try:
            kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
            options = {}
            if parts.scheme == "https":
                kind, options = (
                    http.client.HTTPSConnection,
                    {"context": tls_context(verify=self._verify, ca_file=self._ca_file)},
                )
            connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_s, **options)  # type: ignore[arg-type]
            self._connection = connection
            connection.connect()
            self._socket = connection.sock
            if self._aborted:
                raise SourceError(f"{self._shown}: reading was cancelled")
            connection.request(
                "GET", _target(parts), headers={"Accept": "*/*", "User-Agent": "edge-classifierd", **headers}
            )
            return connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error, opening=True) from None

    def _redirected(self, parts: SplitResult, response: http.client.HTTPResponse) -> SplitResult:
        base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        try:
            target = split_address(urljoin(base, _text(response.getheader("Location", ""))))
        except (SourceError, ValueError):
            target = None
        if target is None or target.scheme not in {"http", "https"}:
            raise SourceError(f"{self._shown}: redirects to something that is not HTTP; check the address")
        return target

    def _login(self, response: http.client.HTTPResponse, origin: SplitResult, parts: SplitResult) -> bytes:
        """Return the header `Authorization`. The configured login goes to its host only, never from https to http."""
        same = _host(parts) == _host(origin) and (origin.scheme, parts.scheme) != ("https", "http")
        holder = origin if same and origin.username is not None else parts
        if holder.username is None and not same:
            target = shown_names(shown_url(parts.geturl()))
            raise SourceError(
                f"{self._shown}: redirects to {target}, which asks for a login; give that address, with the user name "
                "and password"
            )
        if holder.username is None:
            raise SourceError(
                f"{self._shown}: 401 unauthorised; put the user name and password into the address (http://USER:PASSWORD@…)"
            )
        user, password = (unquote(one or "", errors="surrogateescape") for one in (holder.username, holder.password))
        try:
            header = authorisation(_challenges(response), "GET", _target(parts), user, password)
        except ValueError as error:
            raise SourceError(f"{self._shown}: 401 unauthorised; {error}") from None
        return _bytes(header)

    def _failure(self, error: Exception, *, opening: bool) -> SourceError:
        words = "the connection ended early; check the camera and the network"
        if isinstance(error, TimeoutError):
            what = "no answer" if opening else "no data"
            words = f"{what} within {self._timeout_s:g} s; check the camera and the network"
        elif isinstance(error, ssl.SSLError | FileNotFoundError):
            words = tls_words(error, self._ca_file)
        elif isinstance(error, ConnectionRefusedError):
            words = "connection refused; check that the camera is on, and the port"
        elif isinstance(error, socket.gaierror):
            words = "its host name is unknown; check the address and the network's name server"
        elif isinstance(error, http.client.HTTPException | ValueError) and opening:
            words = "the answer is not HTTP; check the address and the port"
        elif isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            words = f"cannot be reached ({os.strerror(error.errno)}); check the address and the network"
        return SourceError(f"{self._shown}: {words}")


def tls_context(*, verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Return the settings of TLS; `verify` checks the certificate, with `ca_file` or the system's."""
    context = ssl.create_default_context(cafile=ca_file if verify else None)
    if verify:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # certificates that cameras made themselves lack extensions
        return context
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def explain_tls(host: str, port: int, ca_file: Path | None, timeout_s: float) -> str | None:
    """Return why a certificate is not accepted, or None when it is: FFmpeg does not report the cause."""
    try:
        context = tls_context(verify=True, ca_file=ca_file)
        with (
            socket.create_connection((host, port), timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return None
    except (ssl.SSLError, FileNotFoundError) as error:
        return tls_words(error, ca_file)
    except OSError:
        return None


def tls_words(error: ssl.SSLError | FileNotFoundError, ca_file: Path | None) -> str:
    """Return what an error of TLS means and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"`ca_file` {ca_file}: no such file; check the path"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); set `ca_file` to the camera's certificate, "
            "or `verify: false`"
        )
    return f"TLS failed ({error.reason or 'no reason given'}); check the port, and that `ca_file` is a certificate"


def authorisation(challenges: list[str], method: str, target: str, user: str, password: str) -> str:
    """Return the value of the header `Authorization`: digest with the best known algorithm, else basic.

    Args:
        challenges: The values of the headers `WWW-Authenticate`.
        method: The request's method.
        target: The request's target, path and query.
        user: The user name. What is hashed is what is sent: UTF-8, as RFC 7616 asks and as curl does, also where the
            camera names no charset. A byte of another encoding, written as %FC in the address, is a surrogate.
        password: The password.

    Raises:
        ValueError: No offered scheme is supported; the text names them.
    """
    offers = [offer for challenge in challenges for offer in _NEXT_CHALLENGE.split(challenge)]
    digests = {}
    for offer in offers:
        if offer.lower().startswith("digest"):
            fields = _fields(offer)
            digests[fields.get("algorithm", "MD5").upper()] = fields
    for name in _HASHES:
        for algorithm in (name, f"{name}-SESS"):
            if algorithm in digests:
                return _digest(digests[algorithm], algorithm, (method, target), (user, password))
    if any(offer.lower().startswith("basic") for offer in offers):
        return "Basic " + base64.b64encode(_bytes(f"{user}:{password}")).decode()
    if not challenges:
        raise ValueError("check the user name and password in the address")
    names = ", ".join(sorted(f"Digest {name}" for name in digests)) or ", ".join(offers)
    raise ValueError(f"the camera offers only {shown_names(names)}; set it to Digest (MD5 or SHA-256) or Basic")


def shown_names(text: str) -> str:
    """Return text from a camera, printable and short."""
    return "".join(one for one in text if one.isprintable())[:100]


def _digest(fields: dict[str, str], algorithm: str, request: tuple[str, str], login: tuple[str, str]) -> str:
    """Answer a challenge as in RFC 7616, 3.4, or as in RFC 2069 where it has no `qop`."""
    (method, target), (user, password) = request, login

    def hashed(text: str) -> str:
        return _HASHES[algorithm.removesuffix("-SESS")](_bytes(text)).hexdigest()

    realm, nonce, client_nonce, count = (
        fields.get("realm", ""),
        fields.get("nonce", ""),
        os.urandom(8).hex(),
        "00000001",
    )
    secret = hashed(f"{user}:{realm}:{password}")
    if algorithm.endswith("-SESS"):
        secret = hashed(f"{secret}:{nonce}:{client_nonce}")
    wanted = hashed(f"{method}:{target}")
    quoted = user.replace("\\", "\\\\").replace('"', '\\"')
    answer = [f'username="{quoted}"', f'realm="{realm}"', f'nonce="{nonce}"', f'uri="{target}"']
    if "auth" in re.split(r"\s*,\s*", fields.get("qop", "")):
        response = hashed(f"{secret}:{nonce}:{count}:{client_nonce}:auth:{wanted}")
        answer += ["qop=auth", f"nc={count}", f'cnonce="{client_nonce}"']
    else:
        response = hashed(f"{secret}:{nonce}:{wanted}")
    answer.append(f'response="{response}"')
    if "algorithm" in fields:
        answer.append(f"algorithm={fields['algorithm']}")
    if "opaque" in fields:
        answer.append(f'opaque="{fields["opaque"]}"')
    return "Digest " + ", ".join(answer)


def _challenges(response: http.client.HTTPResponse) -> list[str]:
    return [_text(one)[:_MOST_CHALLENGE] for one in response.headers.get_all("WWW-Authenticate") or []]


def _fields(challenge: str) -> dict[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(challenge)}


def _is_stale(response: http.client.HTTPResponse) -> bool:
    """Whether the login was right, but its nonce is too old (RFC 7616, 3.3)."""
    return any(_fields(one).get("stale", "").lower() == "true" for one in _challenges(response))


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").removesuffix(".")


def _text(header: str) -> str:
    """Return a header that `http.client` decoded as Latin-1 as UTF-8; other bytes become surrogates."""
    return header.encode("latin-1").decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _target(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~", errors="surrogateescape")
    query = quote(parts.query, safe="/%:@!$&()*+,;=~?", errors="surrogateescape")
    return path + (f"?{query}" if query else "")
