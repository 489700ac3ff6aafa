"""The announcement: the messages from which Home Assistant learns of a device, in its two kinds of discovery."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edge_classifierd import __version__
from edge_classifierd.mqtt.home_assistant.entities import entities

if TYPE_CHECKING:
    from edge_classifierd.config.sections.mqtt import HomeAssistantSection
    from edge_classifierd.mqtt.home_assistant.entities import DeviceFacts
    from edge_classifierd.mqtt.topics import Topics

Payload = dict[str, Any]
"""A discovery message as JSON's own types."""

COMPONENTS = "cmps"
"""The key of a device message under which its entities stand."""


def identifier(device: str) -> str:
    """What Home Assistant knows the device by: its id, never its name."""
    return f"edge-classifierd_{device}"


def announcement(section: HomeAssistantSection, facts: DeviceFacts, topics: Topics) -> dict[str, Payload]:
    """The retained messages by topic: one for the device, or one for each entity."""
    device = {
        "ids": [identifier(topics.device)],
        "name": facts.name,
        "mf": "edge-classifierd",
        "mdl": facts.model,
        "sw": facts.version,
    }
    head = {"dev": device, "o": {"name": "edge-classifierd", "sw": __version__}}
    name = identifier(topics.device)
    found = entities(facts, topics)
    if section.discovery == "device":
        components = {entity.key: {"p": entity.platform, **entity.config} for entity in found}
        return {f"{section.prefix}/device/{name}/config": {**head, COMPONENTS: components}}
    return {
        f"{section.prefix}/{entity.platform}/{name}/{entity.key}/config": {**head, **entity.config} for entity in found
    }


def vanished(before: Payload, now: Payload) -> Payload | None:
    """A device message with only those entities of `before` that `now` has no more; None when there are none."""
    gone = {key: config for key, config in before.get(COMPONENTS, {}).items() if key not in now.get(COMPONENTS, {})}
    return {**before, COMPONENTS: gone} if gone else None


def without(payload: Payload, gone: Payload | None) -> Payload:
    """The device message `payload` that also removes the entities of `gone`: their platform, and nothing else."""
    if gone is None:
        return payload
    removals = {key: {"p": config["p"]} for key, config in gone[COMPONENTS].items()}
    return {**payload, COMPONENTS: {**removals, **payload[COMPONENTS]}}


def retained_topics(payload: Payload) -> set[str]:
    """The topics of states that the entities of a discovery message read."""
    found = set()
    for config in payload[COMPONENTS].values() if COMPONENTS in payload else [payload]:
        found |= {config[key] for key in ("state_topic", "image_topic") if key in config}
        found |= {one["topic"] for one in config.get("availability", ())}
    return found


def encode(payload: Payload) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def discovery_filters(prefix: str, device: str) -> tuple[str, ...]:
    """Where announcements of a device of this id can be, whichever way it was announced."""
    return f"{prefix}/device/{identifier(device)}/config", f"{prefix}/+/{identifier(device)}/+/config"
