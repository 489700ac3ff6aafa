"""Checks across sections that pydantic cannot do: unique names, cameras and their pipelines, an empty `tls`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from edge_classifierd.config.descriptions import close_match
from edge_classifierd.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.config.sections.key_paths import KeyPath


_CAMERA_KEYS = {"v4l2": "device", "picamera2": "camera"}


def cross_check(data: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key path and the message of each broken rule. `data` may have any shape."""
    pipelines, cameras = (data.get(key) if isinstance(data, dict) else None for key in ("pipelines", "cameras"))
    yield from _repeated_names(("pipelines",), pipelines, "pipeline")
    yield from _repeated_names(("cameras",), cameras, "camera")
    for index, pipeline in enumerate(_mappings(pipelines)):
        yield from _repeated_names(("pipelines", index, "watches"), pipeline.get("watches"), "watch")
    yield from _sources(pipelines, cameras)
    yield from _used_twice(pipelines, cameras)
    yield from _sun_times(pipelines, data.get("device") if isinstance(data, dict) else None)
    mqtt = data.get("mqtt") if isinstance(data, dict) else None
    if isinstance(mqtt, dict) and mqtt.get("tls", ...) is None:
        yield ("mqtt", "tls"), "is empty: write `{}` to trust the system's authorities, or remove the key for no TLS"
    web = data.get("web") if isinstance(data, dict) else None
    if isinstance(web, dict) and web.get("tls", ...) is None:
        yield ("web", "tls"), "is empty: write `certificate` and `key`, or remove the key for plain HTTP"


def _mappings(items: object) -> list[dict[object, object]]:
    """Return the items of a list, with an empty mapping for each item of another type, so that indices stay right."""
    return [item if isinstance(item, dict) else {} for item in items] if isinstance(items, list) else []


def _repeated_names(path: KeyPath, items: object, kind: str) -> Iterator[tuple[KeyPath, str]]:
    seen: dict[str, int] = {}
    for index, item in enumerate(_mappings(items)):
        name = item.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            yield (*path, index, "name"), f"must be unique; {kind} number {seen[name] + 1} has this name already"


def _sources(pipelines: object, cameras: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield the mistakes in how pipelines name their source: exactly one of `camera` and `source`."""
    sources = {camera.get("name"): camera.get("source") for camera in _mappings(cameras)}
    for index, camera in enumerate(_mappings(cameras)):
        source = camera.get("source")
        if isinstance(source, dict) and source.get("type") == "picamera2" and source.get("region_in_camera") is True:
            message = "is for the camera of one pipeline; remove it, or make this the `source` of the pipeline"
            yield ("cameras", index, "source", "region_in_camera"), message
    items = pipelines if isinstance(pipelines, list) else []
    for index, pipeline in ((index, item) for index, item in enumerate(items) if isinstance(item, dict)):
        source, name = pipeline.get("source"), pipeline.get("camera")
        if name is None and "source" not in pipeline:
            yield ("pipelines", index, "source"), "is missing; write a `source`, or `camera` with a name of `cameras`"
        if name is not None and "source" in pipeline:
            yield ("pipelines", index, "camera"), "cannot be used with `source`; remove one of them"
        elif isinstance(name, str) and name not in sources:
            yield ("pipelines", index, "camera"), f"`cameras` has no `{shortened(name)}`{_known(name, list(sources))}"
        used = sources.get(name) if isinstance(name, str) else source
        if pipeline.get("max_fps") is not None and isinstance(used, dict) and used.get("type") == "folder":
            message = "leaves out pictures of a folder; set the folder's `fps` instead"
            yield ("pipelines", index, "max_fps"), message
        if _gated(pipeline.get("motion")) and isinstance(used, dict) and used.get("type") == "folder":
            message = "is for cameras and videos: in a folder every picture is classified; remove `motion`"
            yield ("pipelines", index, "motion", "enabled"), message


def _gated(motion: object) -> bool:
    enabled = motion.get("enabled") if isinstance(motion, dict) else None
    return enabled is True or (isinstance(enabled, str) and enabled.lower() in {"yes", "on"})


def _sun_times(pipelines: object, device: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield a mistake for each pipeline with sun times while the device has no location."""
    if isinstance(device, dict) and device.get("location") is not None:
        return
    for index, pipeline in enumerate(_mappings(pipelines)):
        active = pipeline.get("active")
        texts = active if isinstance(active, list) else [active]
        if any(isinstance(text, str) and ("sunrise" in text or "sunset" in text) for text in texts):
            message = "has sun times; add the place: `device: {location: {latitude: 52.5, longitude: 13.4}}`"
            yield ("pipelines", index, "active"), message


def _known(name: str, cameras: list[object]) -> str:
    known = [each for each in cameras if isinstance(each, str)]
    if close := close_match(name, known):
        return f"; did you mean `{close}`?"
    return f"; it has {shortened(', '.join(known))}" if known else "; add it there"


def _used_twice(pipelines: object, cameras: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield a mistake for each camera device that is configured a second time."""
    places = [(("cameras", index), f"camera number {index + 1}", item) for index, item in enumerate(_mappings(cameras))]
    places += [
        (("pipelines", index), f"pipeline number {index + 1}", item) for index, item in enumerate(_mappings(pipelines))
    ]
    seen: dict[tuple[str, str | int], str] = {}
    for path, words, item in places:
        source = item.get("source")
        camera = _camera(source) if isinstance(source, dict) else None
        if camera is None or seen.setdefault(camera, words) == words:
            continue
        key = _CAMERA_KEYS[camera[0]]
        first = seen[camera]
        remedy = "write `camera` with its name" if first.startswith("camera") else "define it once in `cameras`"
        message = f"{first} uses this camera already; {remedy}"
        yield (*path, "source", key if isinstance(source, dict) and key in source else "type"), message


def _camera(source: dict[object, object]) -> tuple[str, str | int] | None:
    """Return a value that is equal for two sources of the same camera. Symbolic links are not followed."""
    match source:
        case {"type": "v4l2"}:
            device = source.get("device", "/dev/video0")
            return ("v4l2", re.sub("^//", "/", os.path.normpath(device))) if isinstance(device, str) else None
        case {"type": "picamera2"}:
            camera = source.get("camera", 0)
            if isinstance(camera, bool) or not isinstance(camera, int | str):
                return None
            return "picamera2", camera.lower() if isinstance(camera, str) else camera
        case _:
            return None
