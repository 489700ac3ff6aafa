"""The messages of Home Assistant's MQTT discovery: one for the device, or one for each entity."""

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
"""A discovery message as JSON types."""

COMPONENTS = "cmps"
"""The key of a device message that contains its entities."""


def identifier(device: str) -> str:
    """Return Home Assistant's identifier of a device; it depends on the device's id only."""
    return f"edge-classifierd_{device}"


def announcement(section: HomeAssistantSection, facts: DeviceFacts, topics: Topics) -> dict[str, Payload]:
    """Return the messages by topic: one for the device, or one for each entity."""
    device = {
        "ids": [identifier(topics.device)],
        "name": _usable_name(facts.name, topics.device),
        "mf": "edge-classifierd",
        "mdl": facts.model,
        "sw": facts.version,
    }
    if facts.page is not None:
        device["cu"] = facts.page
    head = {"dev": device, "o": {"name": "edge-classifierd", "sw": __version__}}
    name = identifier(topics.device)
    found = entities(facts, topics)
    if section.discovery == "device":
        components = {entity.key: {"p": entity.platform, **entity.config} for entity in found}
        return {f"{section.prefix}/device/{name}/config": {**head, COMPONENTS: components}}
    return {
        f"{section.prefix}/{entity.platform}/{name}/{entity.key}/config": {**head, **entity.config} for entity in found
    }


def _usable_name(name: str, device: str) -> str:
    """Return the name, with the device's id if Home Assistant can make no entity id of it, as of emoji only."""
    return name if any(char.isalpha() or char.isdecimal() for char in name) else f"{name} {device}"


def vanished(before: Payload, now: Payload) -> Payload | None:
    """Return a device message with the entities of `before` that `now` does not contain; None without any."""
    gone = {key: config for key, config in before.get(COMPONENTS, {}).items() if key not in now.get(COMPONENTS, {})}
    return {**before, COMPONENTS: gone} if gone else None


def without(payload: Payload, gone: Payload | None) -> Payload:
    """Return the device message `payload` with removals of the entities of `gone`: their platform and no more."""
    if gone is None:
        return payload
    removals = {key: {"p": config["p"]} for key, config in gone[COMPONENTS].items()}
    return {**payload, COMPONENTS: {**removals, **payload[COMPONENTS]}}


def unique_ids(payload: Payload) -> set[str]:
    """Return the unique ids of a discovery message's entities."""
    configs = payload[COMPONENTS].values() if COMPONENTS in payload else [payload]
    return {config["unique_id"] for config in configs if "unique_id" in config}


def without_ids(payload: Payload, ids: set[str]) -> Payload | None:
    """Return a discovery message without the entities with these unique ids; None if no entity is left."""
    if COMPONENTS not in payload:
        return None if unique_ids(payload) & ids else payload
    kept = {key: config for key, config in payload[COMPONENTS].items() if config.get("unique_id") not in ids}
    return {**payload, COMPONENTS: kept} if kept else None


def retained_topics(payload: Payload) -> set[str]:
    """Return the topics of the states that a discovery message refers to, without those of events.

    Events are not retained: an empty message would reach their subscribers as an event without content.
    """
    found = set()
    for config in payload[COMPONENTS].values() if COMPONENTS in payload else [payload]:
        if "event_types" not in config:
            found |= {config[key] for key in ("state_topic", "image_topic") if key in config}
        found |= {one["topic"] for one in config.get("availability", ())}
    return found


def encode(payload: Payload) -> bytes:
    """Return compact UTF-8 JSON."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def discovery_filters(prefix: str, device: str) -> tuple[str, ...]:
    """Return filters for the discovery messages of a device, in both kinds of discovery."""
    return f"{prefix}/device/{identifier(device)}/config", f"{prefix}/+/{identifier(device)}/+/config"
