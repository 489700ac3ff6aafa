"""Checks across sections that pydantic cannot do: unique names, shared cameras, an empty `tls`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_classifierd.config.sections.key_paths import KeyPath


_CAMERA_KEYS = {"v4l2": "device", "picamera2": "camera"}


def cross_check(data: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key path and the message of each broken rule. `data` may have any shape."""
    pipelines = data.get("pipelines") if isinstance(data, dict) else None
    yield from _repeated_names(("pipelines",), pipelines, "pipeline")
    for index, pipeline in enumerate(_mappings(pipelines)):
        yield from _repeated_names(("pipelines", index, "watches"), pipeline.get("watches"), "watch")
    yield from _shared_cameras(pipelines)
    mqtt = data.get("mqtt") if isinstance(data, dict) else None
    if isinstance(mqtt, dict) and mqtt.get("tls", ...) is None:
        yield ("mqtt", "tls"), "is empty: write `{}` to trust the system's authorities, or remove the key for no TLS"


def _mappings(items: object) -> list[dict[object, object]]:
    """Return the items of a list, with an empty mapping for each item of another type, so that indices stay right."""
    return [item if isinstance(item, dict) else {} for item in items] if isinstance(items, list) else []


def _repeated_names(path: KeyPath, items: object, kind: str) -> Iterator[tuple[KeyPath, str]]:
    seen: dict[str, int] = {}
    for index, item in enumerate(_mappings(items)):
        name = item.get("name")
        if isinstance(name, str) and seen.setdefault(name, index) != index:
            yield (*path, index, "name"), f"must be unique; {kind} number {seen[name] + 1} has this name already"


def _shared_cameras(pipelines: object) -> Iterator[tuple[KeyPath, str]]:
    """Yield a mistake for each camera that a second pipeline uses."""
    seen: dict[tuple[str, str | int], int] = {}
    for index, pipeline in enumerate(_mappings(pipelines)):
        source = pipeline.get("source")
        if not isinstance(source, dict):
            continue
        camera = _camera(source)
        if camera is not None and seen.setdefault(camera, index) != index:
            key = _CAMERA_KEYS[camera[0]]
            message = f"pipeline number {seen[camera] + 1} uses this camera already; a camera serves only one"
            yield ("pipelines", index, "source", key if key in source else "type"), message


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
