"""Converts the YAML tree to plain values, with the place of each value and the faults found."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_classifierd.config.descriptions import close_match
from edge_classifierd.config.loading.read_file import UnreadableError
from edge_classifierd.config.loading.secrets import READERS
from edge_classifierd.config.loading.yaml_tree import Mapping, Node, Place, Scalar, Sequence
from edge_classifierd.config.sections.camera_addresses import shown_url
from edge_classifierd.errors import hide, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.config.sections.key_paths import KeyPath

Plain = str | int | float | bool | None
"""The value of a scalar."""

MAX_FETCHED = 256
"""Maximum number of different credentials, variables and files in one configuration."""

UNREAD = object()
"""Placeholder for a value that could not be read. No section accepts it; its fault is in `faults`."""

_STANDARD = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """A mistake that is found before validation."""

    place: Place
    path: KeyPath
    message: str


@dataclass(slots=True)
class Values:
    """The plain data of a file, with places, sources and faults."""

    data: object = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    """Place of each value: of a scalar itself, of the key for mappings and lists, of the item inside a list."""
    key_places: dict[KeyPath, Place] = field(default_factory=dict)
    sources: dict[KeyPath, str] = field(default_factory=dict)
    """For values of a tag: the tag with its text, shown in messages instead of the value."""
    unread: set[KeyPath] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)


def read_values(root: Node, folder: Path, *, read_secrets: bool = True) -> Values:
    """Convert the tree to dictionaries, lists and scalars.

    Args:
        root: the tree.
        folder: `!file` paths are relative to it.
        read_secrets: read what `!credential`, `!env` and `!file` name; otherwise these values count as right.
    """
    values = Values()
    values.data = _Reader(values, folder, read_secrets=read_secrets).value(root, (), root.place)
    return values


def plain_value(text: str) -> Plain:
    """Return the value of an unquoted scalar: true, false, null and decimal numbers of YAML 1.2.

    `on`, `no`, `1:30`, `0755`, `1_000` and `2026-11-21` are text, unlike in YAML 1.1.
    """
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if len(text) <= 18 and _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= 400 and _NUMBER.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
        return float(text)
    return text


class _Reader:
    def __init__(self, values: Values, folder: Path, *, read_secrets: bool) -> None:
        self._values = values
        self._read_secrets = read_secrets
        self._folder = folder
        self._fetched: dict[tuple[str, str], str | UnreadableError] = {}  # each is read only once

    def value(self, node: Node, path: KeyPath, place: Place) -> object:
        """Return the value of a node. `place` is recorded for a mapping or a list."""
        self._values.places[path] = node.place if isinstance(node, Scalar) else place
        if isinstance(node, Scalar):
            return self._scalar(node, path)
        standard = _STANDARD + ("map" if isinstance(node, Mapping) else "seq")
        if node.tag not in {None, standard}:
            return self._unread(node, path, _wrong_tag(node, path))
        if isinstance(node, Sequence):
            return [self.value(item, (*path, index), item.place) for index, item in enumerate(node.items)]
        assert isinstance(node, Mapping)
        return self._mapping(node, path)

    def _mapping(self, node: Mapping, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, where, value in self._entries(node, path):
            here = (*path, key)
            if key in result:
                first = self._values.key_places[here]
                self._fault(where, here, f"is given twice; the first is in line {first.line}")
                continue
            self._values.key_places[here] = where
            result[key] = self.value(value, here, where)
        for key, where, value in self._merged(node, path):
            here = (*path, key)
            if key not in result:
                self._values.key_places[here] = where
                result[key] = self.value(value, here, where)
        return result

    def _entries(self, node: Mapping, path: KeyPath) -> Iterator[tuple[str, Place, Node]]:
        """Yield the keys of the mapping itself. A key that is not text is a fault; `<<` is left to `_merged`."""
        for key, value in node.entries:
            if _is_merge(key):
                continue
            if isinstance(key, Scalar) and key.tag in {None, _STANDARD + "str"}:
                yield key.text, key.place, value
            else:
                self._fault(key.place, path, "a key must be plain text")

    def _merged(self, node: Mapping, path: KeyPath) -> Iterator[tuple[str, Place, Node]]:
        """Yield the keys merged by `<<`. Own keys override merged ones; earlier mappings override later ones."""
        for key, value in node.entries:
            if not _is_merge(key):
                continue
            for other in value.items if isinstance(value, Sequence) else [value]:
                if isinstance(other, Mapping):
                    yield from self._entries(other, path)
                    yield from self._merged(other, path)
                else:
                    self._fault(key.place, path, "`<<` takes a mapping or a list of mappings")

    def _scalar(self, node: Scalar, path: KeyPath) -> object:  # noqa: PLR0911 - one return a kind of tag
        if node.tag is None:
            return plain_value(node.text) if node.plain else node.text
        if node.tag == _STANDARD + "str":
            return node.text
        if node.tag in {_STANDARD + kind for kind in ("int", "float", "bool", "null")}:
            return plain_value(node.text)
        if node.tag not in READERS:
            return self._unread(node, path, _wrong_tag(node, path))
        if not node.text:
            return self._unread(node, path, f"`{node.tag}` needs a name after it")
        self._values.sources[path] = f"`{node.tag} {shortened(node.text)}`"
        if not self._read_secrets:
            self._values.unread.add(path)
            return UNREAD
        fetched = self._fetch(node.tag, node.text)
        if isinstance(fetched, UnreadableError):
            return self._unread(node, path, f"{self._values.sources[path]}: {fetched}")
        for shown in {fetched, shown_url(fetched), os.path.normpath(fetched)}:
            hide(shown, self._values.sources[path])
        return fetched

    def _fetch(self, tag: str, text: str) -> str | UnreadableError:
        if (tag, text) not in self._fetched:
            if len(self._fetched) >= MAX_FETCHED:
                return UnreadableError(f"the file names more than {MAX_FETCHED} different ones")
            try:
                self._fetched[tag, text] = READERS[tag](text, self._folder)
            except UnreadableError as error:
                self._fetched[tag, text] = error
        return self._fetched[tag, text]

    def _unread(self, node: Node, path: KeyPath, message: str) -> object:
        self._values.unread.add(path)
        self._fault(node.place, path, message)
        return UNREAD

    def _fault(self, place: Place, path: KeyPath, message: str) -> None:
        self._values.faults.append(Fault(place, path, message))


def _is_merge(key: Node) -> bool:
    return isinstance(key, Scalar) and key.plain and key.text == "<<"


def _wrong_tag(node: Node, path: KeyPath) -> str:
    tag = str(node.tag)
    if tag in READERS:
        return f"`{tag}` takes a name, not a list or a mapping"
    allowed = ", ".join(f"`{known}`" for known in READERS)
    if close := close_match(tag, READERS):
        return f"unknown tag; did you mean `{close}`?"
    # At `password` the tag can be the password itself, written without quotes.
    shown = "" if path and path[-1] == "password" else f" `{shortened(tag)}`"
    return f"unknown tag{shown}; allowed are {allowed}, and text that begins with ! needs quotes"
