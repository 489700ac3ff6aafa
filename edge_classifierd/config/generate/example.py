"""The example file: every key at its place, a few with values worth copying, the rest behind a # with defaults."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from edge_classifierd.config.descriptions import is_list
from edge_classifierd.config.generate.reference import default_words, meaning
from edge_classifierd.config.sections.base import Section
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.key_paths import keys_of, section_for
from edge_classifierd.config.sections.sources import FolderSection, Picamera2Section, StreamSection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo


_HEAD = """\
# edge-classifierd: every key of the configuration, explained.
# Made by `python -m edge_classifierd.config.generate.render`; docs/configuration.md is the reference.
#
# Keys behind a # show their defaults, or a value to begin with where there is none.
# Only a pipeline's name and source are needed: everything else can go.
"""

# YAML as it is to stand in the file.
_VALUES: dict[str, object] = {
    "device": {"id": "porch", "name": "Porch"},
    "mqtt": {"host": "localhost", "tls": {}},
    "outbox": {},
    "pipelines": {
        "name": "driveway",
        "source": {"type": "v4l2", "device": "/dev/video0", "rotation": "180"},
        "region": {"x": "0.1", "y": "0.2", "width": "0.8", "height": "0.7"},
        "model": {"edgetpu": {}},
        "watches": {
            "name": "dog",
            "labels": '["*terrier*", Labrador retriever, "151-268"]',
            "threshold": "0.6",
            "release": "0.4",
            "confirm": "3",
            "cooldown": "30s",
        },
        "snapshot": {},
        "collect": {},
    },
}

# For keys whose default says nothing of how a value looks.
_SAMPLES = {
    "username": "edge",
    "password": "!credential mqtt_password",
    "ca_file": "ca.pem",
    "cert_file": "device.pem",
    "key_file": "device.key",
    "client_id": "edge-classifierd-porch",
    "allow": '["*cat*", 281]',
    "deny": "[web site]",
    "locale": "de",
    "path": "mobilenet_v2.tflite",
    "labels": "labels.txt",
    "cpu_model": "mobilenet_v2.tflite",
    "library": "libedgetpu.so.1",
    "fps": "10",
    "input_format": "mjpeg",
    "threads": "2",
    "port": "1883",
}

_SOURCES: tuple[tuple[type[Section], dict[str, object]], ...] = (
    (Picamera2Section, {"type": "picamera2"}),
    (StreamSection, {"type": "stream", "url": "rtsp://camera.local/stream1"}),
    (FolderSection, {"type": "folder", "path": "pictures"}),
)

_TAIL = """\

  # A second pipeline, as short as one can be. Its watch is called `any`: it fires on the best label.
  - name: garden
    source: {type: stream, url: "rtsp://camera.local/stream1"}
"""


def render_example() -> str:
    """The file as YAML that loads on any machine."""
    return _HEAD + "\n".join(_section(Configuration, _VALUES, "")).replace("\n\n\n", "\n\n") + "\n" + _TAIL


def _section(section: type[Section], values: dict[str, object], indent: str) -> Iterator[str]:
    first = True
    for name in keys_of(section):
        field = section.model_fields[name]
        if not first or not indent:
            yield ""
        first = False
        yield from _comment(field, indent)
        value = values.get(name)
        if value is None and isinstance(field.default, Section):
            value = {}  # a section is shown with its keys, all of them as they are by default
        if isinstance(value, dict):
            inner = section_for(field.annotation, value)
            assert inner is not None
            lines = list(_section(inner, value, indent + ("    " if is_list(field) else "  ")))
            yield f"{indent}{name}:" if any(_active(line) for line in lines) else f"{indent}# {name}:"
            yield from _as_item(lines, indent) if is_list(field) else lines
            if name == "source":
                yield from _other_sources(indent)
        elif value is not None:
            yield f"{indent}{name}: {value}"
        else:
            yield f"{indent}# {name}: {_sample(name, field)}"


def _as_item(lines: list[str], indent: str) -> list[str]:
    """Put the dash before the first key that counts."""
    first = next(index for index, line in enumerate(lines) if _active(line))
    return [*lines[:first], f"{indent}  - {lines[first].strip()}", *lines[first + 1 :]]


def _other_sources(indent: str) -> Iterator[str]:
    for section, values in _SOURCES:
        yield ""
        yield f"{indent}# Instead: {meaning(section.model_fields['type'])}"
        yield f"{indent}# source:"
        for name in keys_of(section):
            field = section.model_fields[name]
            if name in {"rotation", "mirror", "stall_timeout"}:
                continue  # as above
            words = textwrap.wrap(meaning(field), 110)
            yield from (f"{indent}#   # {line}" for line in (words if name != "type" else []))
            yield f"{indent}#   {name}: {values.get(name) or _sample(name, field)}"


def _comment(field: FieldInfo, indent: str) -> list[str]:
    text = field.description or ""
    return [f"{indent}# {line}" for line in textwrap.wrap(text, 116 - len(indent))]


def _sample(name: str, field: FieldInfo) -> str:
    words = default_words(field)
    literal = words.startswith("`") and words.endswith("`") and words.count("`") == 2
    return words.strip("`") if literal and words not in {"`null`", "`[]`"} else _SAMPLES.get(name, "null")


def _active(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")
