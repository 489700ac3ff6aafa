"""Decides by which names this device may be addressed, against DNS rebinding and requests from foreign pages."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

# Names that no public DNS server can point at this device: RFC 6762, RFC 8375, ICANN's reserved name, and common use.
_LOCAL_ENDINGS: Final = (".local", ".lan", ".home.arpa", ".internal")
_REMEMBERED: Final = 16

_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


class Hosts:
    """The names of this device."""

    def __init__(self, names: Iterable[str], url: str | None) -> None:
        """`names` are `web.access.hosts`; `url` is `web.url`."""
        host = urlsplit(url).hostname if url is not None else None
        self._names = frozenset((*names, *([host] if host else [])))
        self.allows = lru_cache(_REMEMBERED)(self._allows)
        """Return whether a `Host` header names this device."""

    def _allows(self, header: str) -> bool:
        name = _name(header)
        if name is None:
            return False
        return _is_address(name) or "." not in name or name.endswith(_LOCAL_ENDINGS) or name in self._names

    def same_origin(self, origin: str, header: str) -> bool:
        """Return whether an `Origin` header is a page of this device: of its `Host`, or of a configured name."""
        try:
            parts = urlsplit(origin)
            host = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"} or host is None:
            return False
        return parts.netloc.lower() == header.lower() or host in self._names


def _name(header: str) -> str | None:
    """Return the host name of a `Host` header in lower case, without the port; None when it is malformed."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    name = (name or "").removesuffix(".")
    whole = parts.netloc == header and "@" not in header
    return name if whole and (_HOST_NAME.fullmatch(name) or _is_address(name)) else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
