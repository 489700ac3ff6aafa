"""Finds the section and the field of a key path, and formats key paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Union, get_args, get_origin

from edge_classifierd.config.sections.base import Section
from edge_classifierd.errors import shortened

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

KeyPath = tuple[str | int, ...]
"""`("pipelines", 0, "source", "fps")`."""


@dataclass(frozen=True, slots=True)
class Location:
    """The section, field and value at a location of a pydantic error."""

    path: KeyPath
    """The path in the file, without the union tags that pydantic inserts."""
    value: object
    """The value in the file; None when absent."""
    section: type[Section] | None
    """The section of the last key."""
    field: FieldInfo | None
    """The field of the last key; None for an unknown key."""
    item: bool
    """Whether the path ends at an item of a list."""


def locate(root: type[Section], loc: KeyPath, data: object) -> Location:
    """Return the location that a pydantic `loc` means, following sections and data in parallel."""
    path: list[str | int] = []
    section: type[Section] | None = root
    field: FieldInfo | None = None
    annotation: object = root
    value = data
    for position, key in enumerate(loc):
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) and key < len(value) else None
            annotation = next(iter(get_args(annotation)), None)
        else:
            known = value if isinstance(value, dict) else {}
            if key not in known and position < len(loc) - 1 and known.get("type") == key:
                continue  # a union's tag
            section = section_for(annotation, value)
            field = section.model_fields.get(key) if section else None
            annotation = field.annotation if field else None
            value = known.get(key)
        path.append(key)
    return Location(tuple(path), value, section, field, item=bool(path) and isinstance(path[-1], int))


def sections_of(annotation: object) -> list[type[Section]]:
    """Return the sections that a field of this type accepts: several for a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) in {Annotated, Union, UnionType, tuple}:
        return [section for argument in get_args(annotation) for section in sections_of(argument)]
    return []


def keys_of(section: type[Section]) -> list[str]:
    """Return the keys of a section in reading order: `type` first, inherited keys last."""
    return sorted(section.model_fields, key=lambda name: (name != "type", name not in section.__annotations__))


def section_for(annotation: object, value: object) -> type[Section] | None:
    """Return the section of `value`, chosen by its `type` where there are several."""
    sections = sections_of(annotation)
    if len(sections) == 1:
        return sections[0]
    wanted = value.get("type") if isinstance(value, dict) else None
    return next((section for section in sections if wanted in types_of([section])), None)


def types_of(sections: list[type[Section]]) -> list[object]:
    """Return the values of `type` that select these sections."""
    fields = [section.model_fields["type"] for section in sections if "type" in section.model_fields]
    return [value for field in fields for value in get_args(field.annotation)]


def format_key(path: KeyPath) -> str:
    """Return `pipelines[0].source.fps`. Keys that are not words are quoted and shortened."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            word = key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else f'"{shortened(key)}"'
            text += f".{word}" if text else word
    return text


def parse_key(text: str) -> KeyPath:
    """Return the path of `format_key`'s text, for keys that are words."""
    return tuple(int(number) if number else word for number, word in re.findall(r"\[([0-9]+)\]|([^.\[\]]+)", text))
