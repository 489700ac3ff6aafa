"""The entities: everything that Home Assistant shows of a device, as the keys that its MQTT platforms document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.mqtt.topics import Topics

_SILENCE_S: Final = 120
"""Health comes every 30 s; figures of a device that has been silent for so long are unknown."""
_SEPARATOR: Final = "_X_"  # no name has a capital letter, so that no two keys can meet


@dataclass(frozen=True, slots=True)
class WatchFacts:
    """What Home Assistant is told of a watch."""

    name: str
    device_class: str | None


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """What Home Assistant is told of a pipeline."""

    name: str
    watches: tuple[WatchFacts, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What Home Assistant is told of the device; what its board does not tell gets no entity."""

    name: str
    """Shown to people; may change without anything being taken for new."""
    model: str
    version: str
    cameras: tuple[CameraFacts, ...]
    tells_temperature: bool
    tells_throttling: bool


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity. `config` holds JSON's own types, without `platform` and `device`."""

    platform: str
    key: str
    """Unique within the device: of a-z, A-Z, 0-9, _ and -, as a topic's level must be."""
    config: dict[str, Any]


def entities(device: DeviceFacts, topics: Topics) -> tuple[Entity, ...]:
    """All entities of a device, always in the same order and under the same ids, whatever it is called."""
    found = [*_of_device(device, topics)]
    for camera in device.cameras:
        found += _of_camera(camera, topics)
        for watch in camera.watches:
            found += _of_watch(camera.name, watch, topics)
        found += _figures_of_camera(camera, topics)
    return tuple(found)


def _of_device(device: DeviceFacts, topics: Topics) -> Iterator[Entity]:
    def figure(key: str, name: str, template: str, platform: str = "sensor", **more: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
        return _figure(topics, platform, (key,), name, template, **more)

    problem = {"platform": "binary_sensor", "device_class": "problem"}
    yield figure(
        "degraded",
        "degraded",
        "{{ 'ON' if value_json.degraded else 'OFF' }}",
        **problem,
        json_attributes_topic=topics.health,
        json_attributes_template="{{ {'reasons': value_json.reasons} | tojson }}",
    )
    if device.tells_temperature:
        yield figure(
            "temperature",
            "temperature",
            "{{ value_json.board.temperature_c }}",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            suggested_display_precision=0,
        )
    if device.tells_throttling:
        yield figure(
            "throttling",
            "throttling",
            "{{ 'ON' if true in value_json.board.throttled.now.values() else 'OFF' }}",
            **problem,
            json_attributes_topic=topics.health,
            json_attributes_template="{{ value_json.board.throttled | tojson }}",
        )
    yield figure(
        "outbox_depth",
        "outbox depth",
        "{{ value_json.outbox.depth if value_json.outbox else none }}",
        unit_of_measurement="events",
        state_class="measurement",
        icon="mdi:tray-full",
    )
    yield figure(
        "events_lost",
        "events lost",
        "{{ value_json.outbox.lost if value_json.outbox else none }}",
        unit_of_measurement="events",
        state_class="total_increasing",
        icon="mdi:tray-remove",
    )
    yield figure(
        "uptime",
        "uptime",
        "{{ value_json.uptime_s }}",
        device_class="duration",
        unit_of_measurement="s",
        state_class="total_increasing",
        suggested_display_precision=0,
    )
    yield figure("version", "software version", "{{ value_json.version }}", icon="mdi:package-variant-closed")
    reload = {"command_topic": topics.reload_command, "payload_press": "PRESS", "icon": "mdi:reload"}
    yield _entity(topics, "button", ("reload",), "reload", entity_category="diagnostic", **reload)


def _of_camera(camera: CameraFacts, topics: Topics) -> Iterator[Entity]:
    name, spoken = camera.name, _spoken(camera.name)
    seen = {"state_topic": topics.state(name), **_with_camera(topics, name)}
    yield _entity(
        topics,
        "sensor",
        (name, "label"),
        f"{spoken} label",
        # A state may have 255 characters.
        value_template="{{ (value_json.label or 'None')[:255] }}",
        json_attributes_topic=topics.state(name),
        json_attributes_template="{{ {'confidence': value_json.confidence, 'top': value_json.top, "
        "'active': value_json.active, 'since': value_json.since} | tojson }}",
        icon="mdi:label-outline",
        **seen,
    )
    yield _entity(
        topics,
        "sensor",
        (name, "confidence"),
        f"{spoken} confidence",
        value_template="{{ none if value_json.confidence is none else (value_json.confidence * 100) | round(1) }}",
        unit_of_measurement="%",
        state_class="measurement",
        suggested_display_precision=0,
        icon="mdi:percent-outline",
        **seen,
    )
    yield _entity(
        topics,
        "event",
        (name, "event"),
        f"{spoken} event",
        state_topic=topics.event(name),
        event_types=["detected", "cleared"],
        value_template="{{ dict(value_json, event_type=value_json.type) | tojson }}",
        icon="mdi:eye-outline",
        **_with_camera(topics, name),
    )
    yield _entity(
        topics,
        "image",
        (name, "image"),
        f"{spoken} last detection",
        image_topic=topics.image(name),
        content_type="image/jpeg",
        icon="mdi:image-outline",
        **_with_camera(topics, name),
    )
    # Without the camera's availability: who switches the camera off must be able to switch it on again.
    yield _entity(
        topics,
        "switch",
        (name, "enabled"),
        f"{spoken} enabled",
        state_topic=topics.enabled(name),
        command_topic=topics.enabled_command(name),
        icon="mdi:cctv",
    )
    yield _entity(
        topics,
        "button",
        (name, "snapshot"),
        f"{spoken} snapshot",
        command_topic=topics.snapshot_command(name),
        payload_press="PRESS",
        icon="mdi:camera-iris",
        **_with_camera(topics, name),
    )
    yield _entity(
        topics,
        "binary_sensor",
        (name, "camera"),
        f"{spoken} camera",
        state_topic=topics.pipeline_status(name),
        payload_on="online",
        payload_off="offline",
        device_class="connectivity",
        entity_category="diagnostic",
    )


def _of_watch(camera: str, watch: WatchFacts, topics: Topics) -> Iterator[Entity]:
    spoken = f"{_spoken(camera)} {_spoken(watch.name)}"
    look = {"icon": "mdi:eye"} if watch.device_class is None else {"device_class": watch.device_class}
    yield _entity(
        topics,
        "binary_sensor",
        (camera, watch.name, "active"),
        spoken,
        state_topic=topics.watch_state(camera, watch.name),
        **look,
        **_with_camera(topics, camera),
    )
    yield _entity(
        topics,
        "number",
        (camera, watch.name, "threshold"),
        f"{spoken} threshold",
        state_topic=topics.threshold(camera, watch.name),
        command_topic=topics.threshold_command(camera, watch.name),
        min=0,
        max=1,
        step=0.01,
        mode="slider",
        entity_category="config",
        icon="mdi:tune-variant",
    )
    stats = {"state_topic": topics.watch_stats(camera, watch.name), **_with_camera(topics, camera)}
    yield _entity(
        topics,
        "sensor",
        (camera, watch.name, "count_today"),
        f"{spoken} count today",
        value_template="{{ value_json.count_today }}",
        state_class="total_increasing",
        suggested_display_precision=0,
        json_attributes_topic=topics.watch_stats(camera, watch.name),
        json_attributes_template="{{ {'day': value_json.day, 'clock_synchronised': value_json.clock_synchronised} "
        "| tojson }}",
        icon="mdi:counter",
        **stats,
    )
    yield _entity(
        topics,
        "sensor",
        (camera, watch.name, "last_seen"),
        f"{spoken} last seen",
        value_template="{{ value_json.last_seen }}",
        device_class="timestamp",
        json_attributes_topic=topics.watch_stats(camera, watch.name),
        json_attributes_template="{{ {'clock_synchronised': value_json.clock_synchronised} | tojson }}",
        **stats,
    )


def _figures_of_camera(camera: CameraFacts, topics: Topics) -> Iterator[Entity]:
    spoken = _spoken(camera.name)
    # Health that was retained before a reload may not know the pipeline yet.
    own = f"(value_json.pipelines.get('{camera.name}') or {{}})"
    yield _figure(
        topics,
        "sensor",
        (camera.name, "accelerator"),
        f"{spoken} accelerator",
        f"{{{{ {own}.get('accelerator') }}}}",
        icon="mdi:chip",
    )
    yield _figure(
        topics,
        "sensor",
        (camera.name, "inference_time"),
        f"{spoken} inference time",
        f"{{{{ ({own}.get('inference_ms') or {{}}).get('p50') }}}}",
        device_class="duration",
        unit_of_measurement="ms",
        state_class="measurement",
        suggested_display_precision=1,
    )
    yield _figure(
        topics,
        "sensor",
        (camera.name, "fps"),
        f"{spoken} frames per second",
        f"{{{{ {own}.get('fps') }}}}",
        unit_of_measurement="fps",
        state_class="measurement",
        suggested_display_precision=1,
        icon="mdi:speedometer",
    )


def _figure(topics: Topics, platform: str, path: tuple[str, ...], name: str, template: str, **more: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
    """A diagnostic that is read from the health document, and unknown when that stops coming."""
    health = {"state_topic": topics.health, "value_template": template, "expire_after": _SILENCE_S}
    return _entity(topics, platform, path, name, entity_category="diagnostic", **health, **more)


def _entity(topics: Topics, platform: str, path: tuple[str, ...], name: str, **config: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
    """`path` is one part for the device's own, two for a pipeline's, three for a watch's: so unique ids never meet."""
    common = {"unique_id": ".".join(("edge-classifierd", topics.device, *path)), "name": name}
    availability = {"availability": [{"topic": topics.status}], "qos": 1}
    return Entity(platform, _SEPARATOR.join(path), {**common, **availability, **config})


def _with_camera(topics: Topics, camera: str) -> dict[str, Any]:
    """Available while both the daemon runs and its camera delivers."""
    return {
        "availability": [{"topic": topics.status}, {"topic": topics.pipeline_status(camera)}],
        "availability_mode": "all",
    }


def _spoken(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").strip() or name
