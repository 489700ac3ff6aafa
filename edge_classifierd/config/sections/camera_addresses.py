"""The addresses of cameras: what is accepted, and how they are shown without their passwords."""

import re
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.config.sections.paths import FOLDER, resolve

_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "tcp", "udp")
# As in rtsp://camera/user=admin_password=secret_channel=1_stream=0.sdp
_MASKED_IN_PATH = r"((?:pass(?:word|wd)?|pwd|token)=).*?(?=_(?:channel|stream)=|[&/;?]|$)"
_ESCAPES = "in a password write / as %2F, ? as %3F, # as %23 and @ as %40"


def mask_userinfo(text: str) -> str:
    """Return `text` with the user and password of an address replaced: `rtsp://***@porch/1`.

    Everything up to the last `@` is replaced, because passwords with unescaped `/`, `?` or `#` are common.
    """
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://).*@", r"\1***@", text, flags=re.DOTALL)


def shown_url(text: str) -> str:
    """Return `mask_userinfo(text)` with the query and passwords in the path replaced too."""
    shown = re.sub(r"(://[^?]*\?).*", r"\1***", mask_userinfo(text), flags=re.DOTALL)
    return re.sub(rf"(://.*?){_MASKED_IN_PATH}", r"\1\2***", shown, flags=re.IGNORECASE | re.DOTALL)


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
    if not rest.rpartition("@")[2].strip("/"):
        raise PydanticCustomError("rule", "names no host after ://")
    _check_port(rest)
    return scheme.lower() + separator + rest


def _check_port(rest: str) -> None:
    """Check the port of an address without its scheme.

    The host ends at the first /, ? or #, also where that stands in a password: what follows looks like a port then.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after_bracket = authority.rpartition("@")[2].rpartition("]")[2]
    port = after_bracket.partition(":")[2]
    if re.fullmatch(r"[0-9]*", port) is None:
        raise PydanticCustomError("rule", "has a port that is no number" + (f"; {_ESCAPES}" if "@" in rest else ""))
    if ":" in after_bracket and "@" in rest and "@" not in authority:
        raise PydanticCustomError("rule", f"has an @ behind the first /, ? or #; {_ESCAPES}")
    if port and not 0 < int(port) <= 65_535:
        raise PydanticCustomError("rule", "has a port that is not between 1 and 65535")


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
