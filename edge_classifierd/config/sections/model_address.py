"""The keys `pipelines[].model.url` and `sha256`: a model file on a server."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_LONGEST = 2000


def _model_address(value: object) -> str:
    """Return the address. Errors do not quote it: its query may contain a secret."""
    if not isinstance(value, str) or not value or len(value) > _LONGEST:
        raise PydanticCustomError("expected", "")
    if not value.isascii() or re.search(r"[\x00-\x20\x7f]", value):
        raise PydanticCustomError("rule", "must have no spaces and only ASCII characters; write a space as %20")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise PydanticCustomError("rule", "is not an address; write https://HOST/FILE.tflite") from None
    if not host or parts.scheme not in {"https", "http"}:
        raise PydanticCustomError("rule", "must be an address that begins with https://")
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise PydanticCustomError(
            "rule", "must begin with https://, because others could read plain http; only this machine may use it"
        )
    if parts.username is not None:
        raise PydanticCustomError(
            "rule", "must have no account; for a server that needs one use an address with a token in its query"
        )
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise PydanticCustomError("expected", "")
    return value.lower()


ModelAddress = Annotated[
    str,
    BeforeValidator(_model_address),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST, "pattern": "^https?://"}),
    Expected("an https:// address of a .tflite file"),
]
Sha256 = Annotated[
    str,
    BeforeValidator(_sha256),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}),
    Expected("a SHA-256 in quotes: 64 hexadecimal digits"),
]
