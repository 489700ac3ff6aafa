"""The section `web`: the page, its API and the metrics."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected, NotNull
from edge_classifierd.config.sections.base import Section
from edge_classifierd.config.sections.paths import UserPath

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?")

_SHORTEST_SECRET = 8


def split_listen(listen: str) -> tuple[str, int]:
    """Return the address without brackets and the port of `web.listen`. Raises ValueError."""
    address, _, port = listen.rpartition(":")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    parsed = ipaddress.ip_address(bare)
    if (parsed.version == 6) is (bare == address) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(listen)
    return bare, int(port)


def is_loopback(listen: str) -> bool:
    """Return whether only this machine can connect to `web.listen`."""
    return ipaddress.ip_address(split_listen(listen)[0]).is_loopback


def page_address(section: "WebSection", local_address: str | None) -> str | None:
    """Return the address that people open; None when others cannot reach the page or the address is not known.

    Args:
        section: The section `web`.
        local_address: The device's address on its network, if it is known.
    """
    if section.url is not None:
        return section.url
    address, port = split_listen(section.listen)
    if ipaddress.ip_address(address).is_unspecified:
        address = local_address or ""
    if not address or ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return None
    host = f"[{address}]" if ":" in address else address
    return f"{'http' if section.tls is None else 'https'}://{host}:{port}/"


def _listen(value: str) -> str:
    try:
        split_listen(value)
    except ValueError:
        raise PydanticCustomError("expected", "") from None
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in value or re.search(r"[\s\x00-\x1f\x7f?#]", value):
        raise PydanticCustomError("expected", "")
    return value if value.endswith("/") else f"{value}/"


def _host(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise PydanticCustomError("rule", "must be the name of a host alone, without a port")
    return value.rstrip(".").lower()


class WebTlsSection(Section):
    """HTTPS with a certificate of your own."""

    certificate: UserPath = Field(description="The certificate with those of its authorities, a PEM file.")
    key: UserPath = Field(description="Its private key, a PEM file without a password.")


class WebSection(Section):
    """The page of this device; see [web.md](web.md). Without the section nothing listens."""

    listen: Annotated[
        str,
        AfterValidator(_listen),
        WithJsonSchema({"type": "string", "pattern": r":[0-9]+$"}),
        Expected("an IP address and a port, such as 127.0.0.1:8480 or [::]:8480"),
    ] = Field(
        "127.0.0.1:8480",
        description="Address and port. `0.0.0.0:8480` and `[::]:8480` can be reached from other machines and need a "
        "`password`.",
    )
    password: SecretStr | None = Field(
        None,
        strict=False,
        validate_default=True,
        max_length=1000,
        description="The password of the page, or its scrypt hash, with `!credential web_password` out of the file.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        strict=False,
        max_length=1000,
        description="A token that opens `/metrics` alone (`Authorization: Bearer …`).",
    )
    url: (
        Annotated[
            str,
            Field(max_length=1000),
            AfterValidator(_url),
            WithJsonSchema({"type": "string", "pattern": "^https?://"}),
            Expected("an address such as https://porch.example.org/"),
        ]
        | None
    ) = Field(
        None,
        description="The address that people and Home Assistant open; null: made from the address of the device.",
    )
    hosts: tuple[Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)], ...] = Field(
        (),
        strict=False,
        max_length=32,
        description="Further names of this device that browsers use, beside addresses, names without a dot, and names "
        "below .local, .lan, .home.arpa and .internal.",
    )
    tls: Annotated[WebTlsSection | None, NotNull()] = Field(
        None, description="Serve HTTPS. The files are read again at a reload. Default: plain HTTP."
    )
    viewers: int = Field(4, ge=1, le=32, description="Maximum number of browsers that see live pictures at a time.")
    teach: bool = Field(
        default=True, description="Offer *Teach*: recording pictures, training models on the device, and using them."
    )

    @field_validator("password", mode="after")
    @classmethod
    def _password_beyond_loopback(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        listen = info.data.get("listen")
        if value is None and listen is not None and not is_loopback(listen):
            raise PydanticCustomError(
                "rule",
                "is missing: {listen} can be reached from other machines; set one, or listen on 127.0.0.1",
                {"listen": listen},
            )
        return value

    @field_validator("password", "metrics_token", mode="after")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _SHORTEST_SECRET:
            raise PydanticCustomError("rule", f"must have at least {_SHORTEST_SECRET} characters")
        return value
