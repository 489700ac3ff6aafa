"""Verifies the password of logins and scripts, one at a time, with limits for each address and in all."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import secrets
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from edge_classifierd.web.limits import TokenBucket
from edge_classifierd.web.route import RequestError

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock
    from edge_classifierd.web.access.password import Password

_log = logging.getLogger(__name__)

_TRIES: Final = 5
_TRY_EVERY_S: Final = 10.0
_TRIES_IN_ALL: Final = 30
_IN_ALL_EVERY_S: Final = 2.0
_MOST_ADDRESSES: Final = 1024
_MOST_BYTES: Final = 1000
_REMEMBERED_S: Final = 600.0
_MOST_REMEMBERED: Final = 16


class Logins:
    """Used by the page's thread. Only failures count against the limits."""

    def __init__(self, password: Password, clock: Clock) -> None:
        self._password = password
        self._clock = clock
        self._lock = asyncio.Lock()
        self._in_all = TokenBucket(_TRIES_IN_ALL, _IN_ALL_EVERY_S, clock)
        self._addresses: OrderedDict[str, TokenBucket] = OrderedDict()
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self.results: Counter[str] = Counter(ok=0, failed=0, limited=0)
        """Number of logins by result: `ok`, `failed`, `limited`."""

    async def check(self, given: str, address: str) -> None:
        """Verify a password.

        Raises:
            RequestError: It is wrong (401), or there were too many failures (429).
        """
        async with self._lock:  # one at a time bounds the memory and the CPU
            buckets = (self._bucket(address), self._in_all)
            wait_s = max(bucket.wait_s() for bucket in buckets)
            if wait_s > 0:
                self.results["limited"] += 1
                sentence = f"too many wrong passwords; try again in {wait_s:.0f} s"
                raise RequestError(429, "too_many_logins", sentence, retry_after_s=wait_s)
            right = len(given) <= _MOST_BYTES and await asyncio.to_thread(self._password.matches, given)
            if right:
                self.results["ok"] += 1
                return
            self.results["failed"] += 1
            for bucket in buckets:
                bucket.take()
            _log.warning("wrong password from %s", address)
        raise RequestError(401, "wrong_password", "wrong password", field="password")

    async def check_basic(self, encoded: str, address: str) -> None:
        """Verify the password of HTTP Basic authentication; a right one is remembered for 10 minutes.

        Raises:
            RequestError: As `check`.
        """
        mark = hmac.digest(self._key, encoded.encode(), hashlib.sha256)
        if self._verified.get(mark, 0.0) > self._clock.monotonic():
            return
        try:
            _, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise RequestError(401, "signed_out", "the Authorization header is not valid") from None
        await self.check(password, address)
        self._verified[mark] = self._clock.monotonic() + _REMEMBERED_S
        if len(self._verified) > _MOST_REMEMBERED:
            self._verified.popitem(last=False)

    def _bucket(self, address: str) -> TokenBucket:
        key = _network(address)
        bucket = self._addresses.get(key)
        if bucket is None:
            bucket = self._addresses[key] = TokenBucket(_TRIES, _TRY_EVERY_S, self._clock)
            if len(self._addresses) > _MOST_ADDRESSES:
                self._addresses.popitem(last=False)
        self._addresses.move_to_end(key)
        return bucket


def _network(address: str) -> str:
    """Return the address, of IPv6 the first 64 bits, because one machine has them all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
