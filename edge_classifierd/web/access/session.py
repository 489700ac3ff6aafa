"""Sessions: signed cookies that survive a restart and end with a new password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from edge_classifierd.state_file import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock

_log = logging.getLogger(__name__)

T = TypeVar("T")

STAY_S: Final = 30 * 86400
SHORT_S: Final = 12 * 3600
_RECENT_S: Final = 900.0
_MOST_KNOWN: Final = 256
_SECRET_BYTES: Final = 32
_ID_BYTES, _EXPIRY_BYTES, _MAC_BYTES = 16, 8, 32


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """A signed-in browser."""

    id: str
    expires: int
    """Seconds since 1970."""


class Sessions:
    """Makes and reads session cookies. Used by the page's thread.

    A cookie holds a random id and its expiry, authenticated with a key that is derived from a secret in the state
    directory and the password. Nothing is stored for a session; those that signed out are kept until they expire.
    """

    def __init__(self, secret_file: Path, password: bytes, clock: Clock) -> None:
        """Read the secret, or make one.

        Args:
            secret_file: 32 random bytes, readable by the daemon only.
            password: Bytes that change with the password.
            clock: The clock.
        """
        self._file = secret_file
        self._password = password
        self._clock = clock
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._seen_s: OrderedDict[str, float] = OrderedDict()
        self._verified: OrderedDict[str, BrowserSession] = OrderedDict()
        self._key = self._derived(self._read() or self._replace())

    @property
    def recent(self) -> int:
        """Return the number of sessions that were used in the last 15 minutes, at most 256."""
        since_s = self._clock.monotonic() - _RECENT_S
        return sum(at_s >= since_s for at_s in self._seen_s.values())

    def make(self, *, stay: bool) -> tuple[str, int]:
        """Return the value of a new cookie and its age in seconds."""
        age_s = STAY_S if stay else SHORT_S
        expires = int(self._clock.utc().timestamp()) + age_s
        body = secrets.token_bytes(_ID_BYTES) + expires.to_bytes(_EXPIRY_BYTES, "big")
        return base64.urlsafe_b64encode(body + self._mac(body)).decode().rstrip("="), age_s

    def read(self, cookie: str) -> BrowserSession | None:
        """Return the session of a cookie; None when it is forged, expired or ended."""
        session = self._verified.get(cookie) or self._verify(cookie)
        if session is None or session.id in self._ended or session.expires <= self._clock.utc().timestamp():
            return None
        _remember(self._verified, cookie, session)
        _remember(self._seen_s, session.id, self._clock.monotonic())
        return session

    def _verify(self, cookie: str) -> BrowserSession | None:
        """Return the session of a cookie that was made with the key, which takes a while."""
        try:
            data = base64.urlsafe_b64decode(cookie + "=" * (-len(cookie) % 4))
        except ValueError:
            return None
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if len(body) != _ID_BYTES + _EXPIRY_BYTES or not hmac.compare_digest(mac, self._mac(body)):
            return None
        return BrowserSession(body[:_ID_BYTES].hex(), int.from_bytes(body[_ID_BYTES:], "big"))

    def end(self, session: BrowserSession) -> None:
        """End a session."""
        if len(self._ended) >= _MOST_KNOWN:
            self.end_all()
        self._ended[session.id] = session.expires
        self._seen_s.pop(session.id, None)

    def end_all(self) -> None:
        """End all sessions, with a new secret."""
        self._key = self._derived(self._replace())
        self._ended.clear()
        self._seen_s.clear()
        self._verified.clear()

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)

    def _derived(self, secret: bytes) -> bytes:
        return hmac.digest(secret, b"session " + self._password, hashlib.sha256)

    def _read(self) -> bytes | None:
        try:
            secret = self._file.read_bytes()
        except OSError:
            return None
        return secret if len(secret) == _SECRET_BYTES else None

    def _replace(self) -> bytes:
        secret = secrets.token_bytes(_SECRET_BYTES)
        try:
            replace_file(self._file, secret, durably=True, mode=0o600)
        except OSError as error:
            _log.warning("%s: cannot be written (%s); sessions of the page end with a restart", self._file, error)
        return secret


def _remember(known: OrderedDict[str, T], key: str, value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _MOST_KNOWN:
        known.popitem(last=False)
