"""The addresses of cameras: what is accepted, their parts, and how they are shown without their passwords."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import SplitResult

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.paths import FOLDER, resolve
from edge_classifierd.errors import SourceError

# Scheme, login, host with port, and the rest.
_PARTS = re.compile(r"(.*?)://(?:([^/?#]*)@)?([^/?#]*)(.*)", re.DOTALL)
_SERVER = re.compile(r"(\[[^\[\]]*\]|[^:]*)(?::(.*))?", re.DOTALL)
_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "tcp", "udp")
# As in rtsp://camera/user=admin_password=secret_channel=1_stream=0.sdp
_MASKED_IN_PATH = r"((?:pass(?:word|wd)?|pwd|token)=).*?(?=_(?:channel|stream)=|[&/;?]|$)"
_ESCAPES = "in a password write / as %2F, ? as %3F, # as %23 and @ as %40"
_HOSTLESS = ("tcp", "udp")  # tcp://:5000?listen and udp://:5000 receive


def mask_userinfo(text: str) -> str:
    """Return `text` with the user and password of an address replaced: `rtsp://***@porch/1`.

    Everything up to the last `@` is replaced, because passwords with unescaped `/`, `?` or `#` are common.
    """
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://).*@", r"\1***@", text, flags=re.DOTALL)


def shown_url(text: str) -> str:
    """Return `mask_userinfo(text)` with the query and passwords in the path replaced too."""
    shown = re.sub(r"(://[^?]*\?).*", r"\1***", mask_userinfo(text), flags=re.DOTALL)
    return re.sub(rf"(://.*?){_MASKED_IN_PATH}", r"\1\2***", shown, flags=re.IGNORECASE | re.DOTALL)


def split_address(address: str) -> SplitResult:
    """Return the parts of an address with `://`.

    `urlsplit` does not accept every password, and its errors contain parts of them.

    Raises:
        SourceError: It is no valid address; the text shows no secrets.
    """
    mistake = _mistake(address)
    if mistake is not None:
        raise SourceError(f"{shown_url(address)}: {mistake}")
    scheme, login, server, rest = _parts(address)
    path, _, query = rest.partition("#")[0].partition("?")
    return SplitResult(scheme.lower(), server if login is None else f"{login}@{server}", path, query, "")


def _parts(address: str) -> tuple[str, str | None, str, str]:
    match = _PARTS.fullmatch(address)
    return (match[1], match[2], match[3], match[4]) if match else ("", None, "", "")


def _address(value: object, info: ValidationInfo) -> str:
    if not isinstance(value, str) or not value or len(value) > 4096 or "\0" in value:
        raise PydanticCustomError("expected", "")
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, colon, _ = value.partition(":")
        if colon and scheme.lower() in _SCHEMES:  # as a file name it would be shown with its password
            raise PydanticCustomError("rule", f"needs two slashes after `{scheme}:`")
        return str(resolve(value, (info.context or {}).get(FOLDER)))
    if scheme.lower() not in _SCHEMES:
        allowed = ", ".join(f"{known}://" for known in _SCHEMES)
        raise PydanticCustomError("rule", f"must be a file or begin with one of {allowed}")
    if (mistake := _mistake(value)) is not None:
        raise PydanticCustomError("rule", mistake)
    return scheme.lower() + separator + rest


def _mistake(address: str) -> str | None:
    """Return what is wrong with an address that has `://`; the text shows no part of the address.

    An `@` behind the first /, ? or # belongs to the path, unless a password may have begun before: at a `:` before that
    first character or, in an address without a login, at a `:` before that `@`.
    """
    scheme, login, server, rest = _parts(address)
    match = _SERVER.fullmatch(server)
    host, port = (match[1], match[2]) if match else (server, None)
    escapes = f"; {_ESCAPES}" if "@" in address else ""
    if ("[" in host or "]" in host) and not _is_ipv6(host):
        return "has [ or ] in its host, which is no IPv6 address" + escapes
    if re.fullmatch(r"[0-9]*", port or "") is None:
        return "has a port that is no number" + escapes
    before, at, _ = rest.rpartition("@")
    if at and (port is not None or ":" in (before if login is None else login)):
        return f"has an @ behind the first /, ? or #; {_ESCAPES}, and in a path @ as %40"
    if port and (len(port) > 5 or not 0 < int(port) <= 65_535):
        return "has a port that is not between 1 and 65535"
    if not (server if scheme.lower() in _HOSTLESS else host):
        return "names no host after ://"
    return None


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


def _snapshot_address(value: object, info: ValidationInfo) -> str:
    address = _address(value, info)
    if not address.startswith(("http://", "https://")):
        raise PydanticCustomError(
            "rule", "must begin with http:// or https://; for pictures in files use `type: folder`"
        )
    return address


Address = Annotated[
    str,
    BeforeValidator(_address),
    WithJsonSchema({"type": "string", "minLength": 1}),
    Expected("a file or an rtsp://, rtsps://, http://, https://, rtmp://, tcp:// or udp:// address"),
]

SnapshotAddress = Annotated[
    str,
    BeforeValidator(_snapshot_address),
    WithJsonSchema({"type": "string", "minLength": 1}),
    Expected("an http:// or https:// address"),
]
