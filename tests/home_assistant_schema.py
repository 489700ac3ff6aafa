"""What Home Assistant documents for the MQTT platforms that we use, as JSON Schema: no other key is allowed.

Sources: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery (device discovery, `device`, `origin`) and the
page of each platform, such as https://www.home-assistant.io/integrations/sensor.mqtt/.
"""

from __future__ import annotations

from typing import Any

import jsonschema

TEXT = {"type": "string", "minLength": 1}
TOPIC = {"type": "string", "minLength": 1, "not": {"pattern": r"[#+]"}}
TEMPLATE = {"type": "string", "pattern": r"\{\{.*\}\}"}
SECONDS = {"type": "integer", "minimum": 1}
ICON = {"type": "string", "pattern": "^mdi:[a-z0-9-]+$"}

_DEVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ids", "name"],
    "properties": {
        "ids": {"type": "array", "items": TEXT, "minItems": 1},
        **dict.fromkeys(("name", "mf", "mdl", "mdl_id", "hw", "sw", "sn", "sa", "cu"), TEXT),
        "via_device": TEXT,
    },
}
_ORIGIN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": TEXT, "sw": TEXT, "url": TEXT},
}
_COMMON: dict[str, Any] = {
    "availability": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["topic"],
            "properties": {
                "topic": TOPIC,
                "payload_available": TEXT,
                "payload_not_available": TEXT,
                "value_template": TEMPLATE,
            },
        },
    },
    "availability_mode": {"enum": ["all", "any", "latest"]},
    "default_entity_id": TEXT,
    "enabled_by_default": {"type": "boolean"},
    "encoding": {"type": "string"},
    "entity_category": {"enum": ["config", "diagnostic"]},
    "entity_picture": TEXT,
    "icon": ICON,
    "json_attributes_template": TEMPLATE,
    "json_attributes_topic": TOPIC,
    "name": TEXT,
    "qos": {"enum": [0, 1, 2]},
    "unique_id": TEXT,
}
_BINARY_SENSOR_CLASSES = [
    "battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat",
    "light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem",
    "running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window",
]  # fmt: skip
_COMMAND = {"command_topic": TOPIC, "command_template": TEMPLATE, "retain": {"type": "boolean"}}

# Platform: its own keys, and which of them it cannot do without.
_PLATFORMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sensor": (
        {
            "state_topic": TOPIC,
            "value_template": TEMPLATE,
            "device_class": {"enum": ["duration", "temperature", "timestamp"]},  # of the sixty, those that we use
            "state_class": {"enum": ["measurement", "measurement_angle", "total", "total_increasing"]},
            "unit_of_measurement": TEXT,
            "suggested_display_precision": {"type": "integer", "minimum": 0},
            "expire_after": SECONDS,
            "force_update": {"type": "boolean"},
            "last_reset_value_template": TEMPLATE,
            "options": {"type": "array", "items": TEXT},
        },
        ["state_topic"],
    ),
    "binary_sensor": (
        {
            "state_topic": TOPIC,
            "value_template": TEMPLATE,
            "device_class": {"enum": _BINARY_SENSOR_CLASSES},
            "payload_on": TEXT,
            "payload_off": TEXT,
            "expire_after": SECONDS,
            "force_update": {"type": "boolean"},
            "off_delay": SECONDS,
        },
        ["state_topic"],
    ),
    "event": (
        {
            "state_topic": TOPIC,
            "value_template": TEMPLATE,
            "device_class": {"enum": ["button", "doorbell", "motion"]},
            "event_types": {"type": "array", "items": TEXT, "minItems": 1},
        },
        ["state_topic", "event_types"],
    ),
    "image": (
        {
            "image_topic": TOPIC,
            "content_type": {"type": "string", "pattern": "^image/"},
            "image_encoding": {"enum": ["raw", "b64"]},
            "url_topic": TOPIC,
            "url_template": TEMPLATE,
        },
        ["image_topic"],
    ),
    "switch": (
        {
            **_COMMAND,
            "state_topic": TOPIC,
            "value_template": TEMPLATE,
            "device_class": {"enum": ["outlet", "switch"]},
            "optimistic": {"type": "boolean"},
            **dict.fromkeys(("payload_on", "payload_off", "state_on", "state_off"), TEXT),
        },
        ["command_topic"],
    ),
    "button": (
        {**_COMMAND, "device_class": {"enum": ["identify", "restart", "update"]}, "payload_press": TEXT},
        ["command_topic"],
    ),
    "number": (
        {
            **_COMMAND,
            "state_topic": TOPIC,
            "value_template": TEMPLATE,
            "min": {"type": "number"},
            "max": {"type": "number"},
            "step": {"type": "number", "minimum": 0.001},
            "mode": {"enum": ["auto", "box", "slider"]},
            "optimistic": {"type": "boolean"},
            "payload_reset": TEXT,
            "unit_of_measurement": TEXT,
        },
        ["command_topic"],
    ),
}


def check_component(platform: str, config: dict[str, Any], *, inside_device: bool) -> None:
    """One entity's configuration: within a device message, or a message of its own. Raises ValidationError."""
    assert platform in _PLATFORMS, f"no schema for {platform}"
    own, required = _PLATFORMS[platform]
    head = {"p": {"const": platform}} if inside_device else {"dev": _DEVICE, "o": _ORIGIN}
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [*head, *required, "unique_id", "name"],
        "properties": {**head, **_COMMON, **own},
    }
    jsonschema.validate(config, schema)
    if config.get("device_class") == "timestamp":
        assert not {"unit_of_measurement", "state_class"} & set(config), "a moment has neither unit nor statistics"
    if config.get("device_class") == "temperature":
        assert config["unit_of_measurement"] in {"°C", "°F", "K"}
    if config.get("device_class") == "duration":
        assert config["unit_of_measurement"] in {"d", "h", "min", "s", "ms", "μs"}
    if platform in {"sensor", "binary_sensor", "event", "image"}:
        assert config.get("entity_category") != "config", f"a {platform} cannot change the configuration"


def check_message(topic: str, payload: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A discovery message of either kind: its entities with their platforms. Raises ValidationError."""
    kind = topic.split("/")[-3] if topic.split("/")[-3] == "device" else topic.split("/")[-4]
    if kind != "device":
        check_component(kind, payload, inside_device=False)
        return [(kind, payload)]
    head = {
        "type": "object",
        "additionalProperties": False,
        "required": ["dev", "o", "cmps"],
        "properties": {
            "dev": _DEVICE,
            "o": _ORIGIN,
            "cmps": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"}},
            **{key: _COMMON[key] for key in ("availability", "availability_mode", "qos", "encoding")},
        },
    }
    jsonschema.validate(payload, head)
    found = []
    for config in payload["cmps"].values():
        if len(config) > 1:  # alone, the platform removes
            check_component(config["p"], config, inside_device=True)
            found.append((config["p"], config))
    return found


def topics_read(config: dict[str, Any]) -> set[str]:
    """The topics from which Home Assistant would read."""
    keys = ("state_topic", "image_topic", "json_attributes_topic")
    return {config[key] for key in keys if key in config} | {one["topic"] for one in config["availability"]}
