"""The sections `mqtt`, `mqtt.tls` and `mqtt.home_assistant`."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected, NotNull
from edge_classifierd.config.sections.base import (
    Hosts,
    Section,
    Switch,
    Text,
    TopicPrefix,
)
from edge_classifierd.config.sections.durations import Duration
from edge_classifierd.config.sections.paths import UserPath

# https://www.home-assistant.io/integrations/binary_sensor/#device-class
DeviceClass = Annotated[
    Literal[
        "battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat",
        "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem",
        "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window",
    ],
    Expected("a device class of Home Assistant's binary sensors, such as motion, occupancy, presence or problem"),
]  # fmt: skip
"""Home Assistant's class of a watch; it selects the icon and the names of the two states."""


class HomeAssistantSection(Section):
    """Home Assistant's MQTT discovery; see [home-assistant.md](home-assistant.md)."""

    enabled: Switch = Field(default=True, description="Announce the device; false removes it from Home Assistant.")
    prefix: TopicPrefix = Field(
        "homeassistant", description="Home Assistant's discovery prefix, if it was changed there."
    )
    discovery: Literal["device", "component"] = Field(
        "device",
        description="`device`: one message for the device; `component`: one message for each entity, for servers older "
        "than 2024.11.",
    )


class TlsSection(Section):
    """TLS 1.2 or newer, always verified; `tls: {}` trusts the system's authorities."""

    ca_file: UserPath | None = Field(None, description="Certificate authorities to trust; null: the system's.")
    cert_file: UserPath | None = Field(None, description="This device's certificate, if the broker requires one.")
    key_file: UserPath | None = Field(None, description="The certificate's private key; null: it is in `cert_file`.")
    server_name: Text | None = Field(
        None, description="Name that the broker's certificate must contain; null: the name in `mqtt.host`."
    )

    @field_validator("key_file", mode="after")
    @classmethod
    def _key_needs_certificate(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("cert_file", ...) is None:
            raise PydanticCustomError("rule", "needs `cert_file` beside it")
        return value


class MqttSection(Section):
    """The broker that receives the events."""

    host: Hosts = Field(
        default="localhost",
        validate_default=True,
        description="The broker's name or address, or a list of the nodes of a cluster. Each address of each name is "
        "tried in turn.",
    )
    port: int = Field(1883, ge=1, le=65535, description="The broker's port. Default: 1883, with `tls` 8883.")
    transport: Literal["tcp", "websockets"] = Field("tcp", description="Transport; `websockets` also works with `tls`.")
    websocket_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1000), Expected("a path such as /mqtt")] = (
        Field("/mqtt", description="Path of the WebSocket, with `transport: websockets`.")
    )
    username: Annotated[str, Field(max_length=1000), Expected("text")] | None = Field(
        None, description="The account on the broker; null or empty: anonymous."
    )
    password: SecretStr | None = Field(
        None,
        strict=False,
        min_length=1,
        max_length=65535,
        description="Its password: `!credential NAME`, `!env NAME` or `!file PATH` keep it out of the file.",
    )
    tls: Annotated[TlsSection | None, NotNull()] = Field(
        None, description="Encrypt the connection; `{}` trusts the system's authorities. Default: plain."
    )
    base_topic: TopicPrefix = Field(
        "edge-classifierd", description="Topics begin with this, followed by the device's id."
    )
    protocol: Literal["auto", 5, "3.1.1"] = Field(
        "auto", description="Version of MQTT; `auto`: 5, or 3.1.1 if the broker does not support 5."
    )
    keepalive: Duration = Field(
        30.0,
        ge=1,
        le=65535,
        description="The broker publishes `offline` for a device that was silent for one and a half times this.",
    )
    client_id: Text | None = Field(None, description="Unique on the broker; null: made from the machine's identity.")
    home_assistant: HomeAssistantSection = Field(
        default=HomeAssistantSection(), description="Home Assistant's MQTT discovery. Default: on."
    )

    @model_validator(mode="before")
    @classmethod
    def _port_follows_tls(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("tls") is not None and "port" not in value:
            return {**value, "port": 8883}
        return value

    @field_validator("username", mode="after")
    @classmethod
    def _empty_means_anonymous(cls, value: str | None) -> str | None:
        return value or None

    @field_validator("password", mode="after")
    @classmethod
    def _password_needs_username(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None and info.data.get("username", ...) is None:
            raise PydanticCustomError("rule", "needs `username` beside it")
        return value
