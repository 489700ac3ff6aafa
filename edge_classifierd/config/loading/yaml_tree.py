"""Parses YAML text into a tree of nodes with line and column. Depth and size are limited, aliases included."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from edge_classifierd.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 32
MAX_NODES = 20_000
"""Limit on values, counted after expansion of aliases."""

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where available: ten times faster


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in the file. Line and column count from 1."""

    line: int
    column: int


@dataclass(slots=True, eq=False)
class Node:
    """One value of the tree. An aliased node occurs several times as the same object."""

    place: Place
    tag: str | None
    """An explicit tag (`!env`), None for an ordinary value."""
    nodes: int = 1
    """Number of nodes below and including this one, with aliases expanded."""
    depth: int = 1


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A scalar. `plain` means unquoted, so that it may be a number, a boolean or null."""

    text: str = ""
    plain: bool = False


@dataclass(slots=True, eq=False)
class Sequence(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Mapping(Node):
    """Keys and values in the file's order, with duplicates. A key can be any node."""

    entries: list[tuple[Node, Node]] = field(default_factory=list)


def compose(text: str, file: str, loader: type[Any] = _LOADER) -> Node | None:
    """Return the root of the only document in `text`, None for an empty file; raises ConfigurationError."""
    builder = _TreeBuilder(file)
    try:
        for event in _events(text, loader):
            builder.add(event)
    except yaml.YAMLError as error:
        raise ConfigurationError((_syntax_problem(error, text, file),)) from error
    except (ValueError, OverflowError) as error:  # raised by PyYAML's scanner for escapes beyond Unicode ("\UFFFFFFFF")
        problem = Problem(file, 0, 0, "", "is not YAML: it has an impossible escape sequence")
        raise ConfigurationError((problem,)) from error
    return builder.root


def _events(text: str, loader: type[Any]) -> Iterator[yaml.Event]:
    return yaml.parse(text, Loader=loader)  # type: ignore[no-untyped-call,no-any-return,unused-ignore]


class _TreeBuilder:
    """Builds the tree from the parser's events, without recursion."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self._file = file
        self._documents = 0
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Node | None] = []  # parallel to `_open`: the key whose value comes next
        self._anchors: dict[str, Node] = {}
        self._nodes = 0

    def add(self, event: yaml.Event) -> None:
        """Add the node of one event."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._fault(_place(event), "a second document begins here; the file must hold one")
            case yaml.AliasEvent():
                self._add(self._aliased(event))
            case yaml.ScalarEvent():
                self._check_text(event)
                plain = not event.style and bool(event.implicit[0])
                node = Scalar(_place(event), _explicit(event), text=event.value, plain=plain)
                self._name(event.anchor, node)
                self._add(node)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                kind = Sequence if isinstance(event, yaml.SequenceStartEvent) else Mapping
                opened = kind(_place(event), _explicit(event))
                self._name(event.anchor, opened)
                self._open.append(opened)
                self._keys.append(None)
                if len(self._open) > MAX_DEPTH:
                    raise self._fault(opened.place, f"is nested more than {MAX_DEPTH} levels deep")
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._keys.pop()
                self._add(self._open.pop())
            case _:
                pass

    def _add(self, node: Node) -> None:
        if len(self._open) + node.depth > MAX_DEPTH:
            raise self._fault(node.place, f"is nested more than {MAX_DEPTH} levels deep")
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        parent.nodes += node.nodes
        parent.depth = max(parent.depth, 1 + node.depth)
        if parent.nodes > MAX_NODES:
            raise self._fault(node.place, f"the file holds more than {MAX_NODES:,} values, aliases expanded")
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif isinstance(parent, Mapping):
            key = self._keys[-1]
            if key is None:
                self._keys[-1] = node
            else:
                parent.entries.append((key, node))
                self._keys[-1] = None

    def _name(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        # The name is not shown: an unquoted password that begins with * looks like an alias.
        node = self._anchors.get(str(event.anchor))
        if node is None:
            raise self._fault(_place(event), "no anchor (&) above has this name; text that begins with * needs quotes")
        if any(node is opened for opened in self._open):
            raise self._fault(_place(event), "an alias cannot refer to a value that contains it")
        return node

    def _check_text(self, event: yaml.ScalarEvent) -> None:
        if wrong := re.search("[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]", event.value.replace("\r", "")):
            raise self._fault(_place(event), f"has the control character U+{ord(wrong[0]):04X}")

    def _fault(self, place: Place, message: str) -> ConfigurationError:
        return ConfigurationError((Problem(self._file, place.line, place.column, "", message),))


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1) if mark else Place(0, 0)


def _explicit(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> str | None:
    return None if event.tag in {None, "", "!"} else str(event.tag)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = str(getattr(error, "problem", None) or "it cannot be read")
    if "tag handle" in what:  # PyYAML shows the text, which may be an unquoted password that begins with !
        what = "unknown tag; text that begins with ! needs quotes"
    if mark and text[mark.index : mark.index + 1] == "\t":
        what = "a tab cannot stand here"
    remedies = {
        "a tab": "indent with spaces",
        "mapping values are not allowed": "text with a colon needs quotes, and keys of a mapping one indentation",
        "cannot start any token": "text that begins with this character needs quotes",
    }
    remedy = next((f"; {remedy}" for part, remedy in remedies.items() if part in what), "")
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(0, 0)
    return Problem(file, place.line, place.column, "", f"is not YAML: {what}{remedy}")
