"""The page's password: hashing and verification with scrypt (RFC 7914)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from edge_classifierd.errors import ConfigurationError, Problem

# 16 MB and some tens of milliseconds a check; OWASP's password storage cheat sheet lists this cost as sufficient.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_MOST_MEMORY: Final = 64 * 2**20
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


class Password:
    """The password of the configuration: text, or `scrypt$COST$BLOCK$PARALLEL$SALT$HASH`."""

    def __init__(self, stored: str) -> None:
        """Read the stored form. Raises ConfigurationError when it is a damaged hash."""
        self._text = stored
        self._hash: tuple[int, int, int, bytes, bytes] | None = None
        if stored.startswith("scrypt$"):
            try:
                cost, block, parallel, salt, digest = stored.split("$")[1:]
                self._hash = (int(cost), int(block), int(parallel), _decoded(salt), _decoded(digest))
                self.matches("")  # the parameters are usable
            except ValueError as error:
                message = f"is not a scrypt hash that can be used ({error}); set a new one"
                raise ConfigurationError((Problem("", 0, 0, "web.access.password", message),)) from None

    @property
    def fingerprint(self) -> bytes:
        """Return bytes that change with the password, for the key of the sessions."""
        return hashlib.sha256(self._text.encode()).digest()

    def matches(self, given: str) -> bool:
        """Return whether `given` is the password, in constant time; a hash takes about 0.1 s and 16 MB."""
        if self._hash is None:
            return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self.fingerprint)
        cost, block, parallel, salt, digest = self._hash
        made = hashlib.scrypt(
            given.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=_MOST_MEMORY, dklen=len(digest)
        )
        return hmac.compare_digest(made, digest)


def hash_password(password: str) -> str:
    """Return the form of a password that is stored."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=_MOST_MEMORY, dklen=32)
    return f"scrypt${_COST}${_BLOCK}${_PARALLEL}${_encoded(salt)}${_encoded(digest)}"


def make_password() -> str:
    """Return a random password of 20 letters and digits (100 bits) in groups of five."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(20))
    return "-".join(letters[at : at + 5] for at in range(0, 20, 5))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if not 16 <= len(data) <= 64:
        raise ValueError("a part of it has the wrong length")
    return data
