"""The entities of a device in Home Assistant, with the keys of its MQTT platforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.mqtt.topics import Topics

_EXPIRE_AFTER_S: Final = 120
"""Health is published every 30 s; after this time without it the diagnostics are unavailable."""
_SEPARATOR: Final = "_X_"  # names have no capital letters, so that keys are unique


@dataclass(frozen=True, slots=True)
class WatchFacts:
    """A watch as Home Assistant shows it."""

    name: str
    device_class: str | None
    title: str | None = None  # shown to people in place of the name


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """A pipeline as Home Assistant shows it."""

    name: str
    watches: tuple[WatchFacts, ...]
    has_motion: bool = False
    """Whether the motion gate is enabled."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The device as Home Assistant shows it."""

    name: str
    """Shown to people; a change does not change ids."""
    model: str
    version: str
    cameras: tuple[CameraFacts, ...]
    has_temperature: bool
    """Whether the board reports its temperature."""
    has_throttling: bool
    """Whether the board reports throttling."""
    page: str | None = None
    """The address of the device's page, if it has one that others can reach."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity. `config` contains JSON types, without `platform` and `device`."""

    platform: str
    key: str
    """Unique within the device; of a-z, A-Z, 0-9, _ and -, because it is a level of a topic."""
    config: dict[str, Any]


def entities(device: DeviceFacts, topics: Topics) -> tuple[Entity, ...]:
    """Return all entities of a device, in a fixed order. Their ids do not depend on the device's name."""
    found = [*_device_entities(device, topics)]
    for camera in device.cameras:
        found += _camera_entities(camera, topics)
        found += [entity for watch in camera.watches for entity in _watch_entities(camera.name, watch, topics)]
        found += _camera_diagnostics(camera, topics)
    return tuple(found)


def _device_entities(device: DeviceFacts, topics: Topics) -> Iterator[Entity]:
    def diagnostic(key: str, name: str, template: str, platform: str = "sensor", **more: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
        return _diagnostic(topics, platform, (key,), name, template, **more)

    problem = {"platform": "binary_sensor", "device_class": "problem"}
    yield diagnostic(
        "degraded",
        "degraded",
        "{{ 'ON' if value_json.degraded else 'OFF' }}",
        **problem,
        json_attributes_topic=topics.health,
        json_attributes_template="{{ {'reasons': value_json.reasons} | tojson }}",
    )
    if device.has_temperature:
        yield diagnostic(
            "temperature",
            "temperature",
            "{{ value_json.board.temperature_c }}",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            suggested_display_precision=0,
        )
    if device.has_throttling:
        yield diagnostic(
            "throttling",
            "throttling",
            "{{ 'ON' if true in value_json.board.throttled.now.values() else 'OFF' }}",
            **problem,
            json_attributes_topic=topics.health,
            json_attributes_template="{{ value_json.board.throttled | tojson }}",
        )
    yield diagnostic(
        "outbox_depth",
        "outbox depth",
        "{{ value_json.outbox.depth if value_json.outbox else none }}",
        unit_of_measurement="events",
        state_class="measurement",
        icon="mdi:tray-full",
    )
    yield diagnostic(
        "events_lost",
        "events lost",
        "{{ value_json.outbox.lost if value_json.outbox else none }}",
        unit_of_measurement="events",
        state_class="total_increasing",
        icon="mdi:tray-remove",
    )
    yield diagnostic(
        "uptime",
        "uptime",
        "{{ value_json.uptime_s }}",
        device_class="duration",
        unit_of_measurement="s",
        state_class="total_increasing",
        suggested_display_precision=0,
    )
    yield diagnostic("version", "software version", "{{ value_json.version }}", icon="mdi:package-variant-closed")
    reload = {"command_topic": topics.reload_command, "payload_press": "PRESS", "icon": "mdi:reload"}
    yield _entity(topics, "button", ("reload",), "reload", entity_category="diagnostic", **reload)


def _camera_entities(camera: CameraFacts, topics: Topics) -> Iterator[Entity]:
    name, readable = camera.name, _readable(camera.name)
    seen = {"state_topic": topics.state(name), **_with_camera(topics, name)}
    yield _entity(
        topics,
        "sensor",
        (name, "label"),
        f"{readable} label",
        # A state has at most 255 characters.
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
        f"{readable} confidence",
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
        f"{readable} event",
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
        f"{readable} last detection",
        image_topic=topics.image(name),
        content_type="image/jpeg",
        icon="mdi:image-outline",
        **_with_camera(topics, name),
    )
    if camera.has_motion:
        yield _entity(
            topics,
            "binary_sensor",
            (name, "motion"),
            f"{readable} motion",
            state_topic=topics.motion(name),
            device_class="motion",
            **_with_camera(topics, name),
        )
    # Without the camera's availability, so that a camera that was switched off can be switched on again.
    yield _entity(
        topics,
        "switch",
        (name, "enabled"),
        f"{readable} enabled",
        state_topic=topics.enabled(name),
        command_topic=topics.enabled_command(name),
        icon="mdi:cctv",
    )
    yield _entity(
        topics,
        "button",
        (name, "snapshot"),
        f"{readable} snapshot",
        command_topic=topics.snapshot_command(name),
        payload_press="PRESS",
        icon="mdi:camera-iris",
        **_with_camera(topics, name),
    )
    yield _entity(
        topics,
        "binary_sensor",
        (name, "camera"),
        f"{readable} camera",
        state_topic=topics.pipeline_status(name),
        payload_on="online",
        payload_off="offline",
        value_template="{{ 'None' if value == 'resting' else value }}",  # unknown, not disconnected
        device_class="connectivity",
        entity_category="diagnostic",
    )


def _watch_entities(camera: str, watch: WatchFacts, topics: Topics) -> Iterator[Entity]:
    readable = f"{_readable(camera)} {watch.title or _readable(watch.name)}"
    look = {"icon": "mdi:eye"} if watch.device_class is None else {"device_class": watch.device_class}
    yield _entity(
        topics,
        "binary_sensor",
        (camera, watch.name, "active"),
        readable,
        state_topic=topics.watch_state(camera, watch.name),
        **look,
        **_with_camera(topics, camera),
    )
    yield _entity(
        topics,
        "number",
        (camera, watch.name, "threshold"),
        f"{readable} threshold",
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
        f"{readable} count today",
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
        f"{readable} last seen",
        value_template="{{ value_json.last_seen }}",
        device_class="timestamp",
        json_attributes_topic=topics.watch_stats(camera, watch.name),
        json_attributes_template="{{ {'clock_synchronised': value_json.clock_synchronised} | tojson }}",
        **stats,
    )


def _camera_diagnostics(camera: CameraFacts, topics: Topics) -> Iterator[Entity]:
    readable = _readable(camera.name)
    # Health that was retained before a reload may not contain the pipeline.
    own = f"(value_json.pipelines.get('{camera.name}') or {{}})"
    yield _diagnostic(
        topics,
        "binary_sensor",
        (camera.name, "picture"),
        f"{readable} picture",
        f"{{{{ 'ON' if {own}.get('picture') in ('frozen', 'blank') else 'OFF' }}}}",
        device_class="problem",
        json_attributes_topic=topics.health,
        json_attributes_template=f"{{{{ {{'picture': {own}.get('picture')}} | tojson }}}}",
    )
    yield _diagnostic(
        topics,
        "sensor",
        (camera.name, "accelerator"),
        f"{readable} accelerator",
        f"{{{{ {own}.get('accelerator') }}}}",
        icon="mdi:chip",
    )
    yield _diagnostic(
        topics,
        "sensor",
        (camera.name, "inference_time"),
        f"{readable} inference time",
        f"{{{{ ({own}.get('inference_ms') or {{}}).get('p50') }}}}",
        device_class="duration",
        unit_of_measurement="ms",
        state_class="measurement",
        suggested_display_precision=1,
    )
    yield _diagnostic(
        topics,
        "sensor",
        (camera.name, "fps"),
        f"{readable} frames per second",
        f"{{{{ {own}.get('fps') }}}}",
        unit_of_measurement="fps",
        state_class="measurement",
        suggested_display_precision=1,
        icon="mdi:speedometer",
    )


def _diagnostic(topics: Topics, platform: str, path: tuple[str, ...], name: str, template: str, **more: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
    """Return a diagnostic entity with a value from the health document."""
    health = {"state_topic": topics.health, "value_template": template, "expire_after": _EXPIRE_AFTER_S}
    return _entity(topics, platform, path, name, entity_category="diagnostic", **health, **more)


def _entity(topics: Topics, platform: str, path: tuple[str, ...], name: str, **config: Any) -> Entity:  # noqa: ANN401 - Home Assistant's keys
    """Return an entity; `path` has one part for the device, two for a pipeline, three for a watch."""
    common = {"unique_id": ".".join(("edge-classifierd", topics.device, *path)), "name": name}
    availability = {"availability": [{"topic": topics.status}], "qos": 1}
    return Entity(platform, _SEPARATOR.join(path), {**common, **availability, **config})


def _with_camera(topics: Topics, camera: str) -> dict[str, Any]:
    """Return the availability of an entity that needs the daemon and its camera, which may rest."""
    template = "{{ 'offline' if value == 'offline' else 'online' }}"
    delivers = {"topic": topics.pipeline_status(camera), "value_template": template}
    return {"availability": [{"topic": topics.status}, delivers], "availability_mode": "all"}


def _readable(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").strip() or name
