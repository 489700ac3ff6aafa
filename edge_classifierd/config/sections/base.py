"""The base class of all sections and the value types that several sections use."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected

FROM_OTHERS: Any = None
"""Default of a field that is computed from other fields when it is absent or null."""


class Section(BaseModel):
    """A mapping in the file. Frozen and strict: no unknown keys, no conversions. Empty (null) means all defaults."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        defer_build=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: object) -> object:
        return {} if value is None else value


def slug(text: str) -> str:
    """Return `text` as a name: `Porch Cam.local` becomes `porch-cam-local`. May be empty."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:64]


def _checked_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_-]{1,64}", value):
        better = slug(value) if isinstance(value, str) else ""
        if better:
            raise PydanticCustomError("expected", "", {"remedy": f"; `{better}` would do"})
        raise PydanticCustomError("expected", "")
    return value


# Wildcards, and characters that brokers refuse: controls, non-characters, surrogates (MQTT 5, section 1.5.4).
UNPUBLISHABLE = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that a topic must not contain."""


_MAX_HOST_LENGTH = 1000
_HOST_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _MAX_HOST_LENGTH}


def _publishable(value: str) -> str:
    if UNPUBLISHABLE.search(value) or value.startswith(("/", "$")) or value.endswith("/"):
        raise PydanticCustomError(
            "rule", "must have no #, + or control characters, not begin with / or $, and not end with /"
        )
    return value


def _is_ipv6(text: str) -> bool:
    with suppress(ValueError):
        ipaddress.IPv6Address(text)
        return True
    return False


def _host(value: str) -> str:
    """Validate a broker's name or address. Text before an @ is never shown, because it may be a password."""
    if not value:
        raise PydanticCustomError("too_short", "")
    if len(value) > _MAX_HOST_LENGTH:
        raise PydanticCustomError("too_long", "", {"max_length": _MAX_HOST_LENGTH})
    address = value.strip("[]")
    if _is_ipv6(address):
        if address != value:
            raise PydanticCustomError("rule", "must have no brackets; write {address}", {"address": address})
        return value
    if "," in value and not re.search("[/@]", value):
        names = ", ".join(name.strip() for name in value.split(",") if name.strip())
        raise PydanticCustomError("rule", "is one name or a list; write [{names}]", {"names": names})
    if re.search(r"[\s\0\ud800-\udfff]", value):  # surrogates: bytes of a command line that are no UTF-8
        raise PydanticCustomError("rule", "must be the broker's name or address, without spaces")
    if re.search("[/@]", value):
        raise PydanticCustomError(
            "rule",
            "must be the broker's name or address alone; put the port in `mqtt.port`, an account in `mqtt.username` "
            "and `mqtt.password`, and write `mqtt.tls` for TLS",
        )
    if ":" in value:
        raise PydanticCustomError("rule", "must be the broker's name or address alone; put the port in `mqtt.port`")
    return value


def _hosts(value: object) -> object:
    if isinstance(value, int | float):
        raise PydanticCustomError("expected", "", {"remedy": "; put it in quotes"})
    return (_host(value),) if isinstance(value, str) else value


def _switch(value: object) -> object:
    if isinstance(value, str):
        return {"yes": True, "on": True, "no": False, "off": False}.get(value.lower(), value)
    return value


def _selector(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise PydanticCustomError("expected", "")
    if (isinstance(value, int) and not 0 <= value < 1_000_000) or (isinstance(value, str) and len(value) > 200):
        raise PydanticCustomError("expected", "")
    return value


Name = Annotated[
    str,
    BeforeValidator(_checked_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"}),
    Expected("1 to 64 of the characters a-z, 0-9, _ and -"),
]
"""Part of a topic."""


def _taught_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        raise PydanticCustomError("expected", "")
    return value


TaughtName = Annotated[
    str,
    BeforeValidator(_taught_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9-]{1,32}$"}),
    Expected("the name of a taught model: 1 to 32 of the characters a-z, 0-9 and -"),
]

TopicPrefix = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_publishable)]
"""The first levels of a topic."""

Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host)], ...],
    Field(strict=False, min_length=1, max_length=16),
    BeforeValidator(_hosts),
    WithJsonSchema(
        {
            "anyOf": [
                _HOST_SCHEMA,
                {"type": "array", "items": _HOST_SCHEMA, "minItems": 1, "maxItems": 16},
            ]
        }
    ),
    Expected("a name or address, or a list of them"),
]
"""Names or addresses of the broker's nodes; a single text is a list of one."""

Switch = Annotated[
    bool,
    BeforeValidator(_switch),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": [True, False, "yes", "no", "on", "off"]},
                {"type": "string", "pattern": "^([Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff])$"},
            ]
        }
    ),
    Expected("true or false"),
]
"""A boolean; `yes`, `no`, `on` and `off` are accepted too."""

LabelSelector = Annotated[
    int | str,
    BeforeValidator(_selector),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 999_999},
                {"type": "string", "minLength": 1, "maxLength": 200},
            ]
        }
    ),
    Expected('a label, a glob over labels, a class index, or a range such as "151-268"'),
]
"""An int is a class index. Text is a label, a glob, an index or a range; the model's labels decide."""

Locale = Annotated[
    str,
    Field(pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,3}$"),
    Expected("a language such as de or pt-BR"),
]
Text = Annotated[str, Field(min_length=1, max_length=1000), Expected("text")]
Fraction = Annotated[float, Field(gt=0, le=1)]
