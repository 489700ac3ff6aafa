"""Shows the text of a configuration file to people: as it is written, with the secrets in it replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from edge_classifierd.config.sections.camera_addresses import shown_url

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN: Final = "***"
_SECRET_KEY: Final = re.compile(r"pass|pwd|token|secret", re.IGNORECASE)
_SECRET_IN_LINE: Final = re.compile(
    r"((?:pass|pwd|token|secret)\w*[\"']?\s*:[ \t]*)(?!!(?:credential|env|file)\b)\S.*", re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#@]*:.{0,300}@)?\S+")  # passwords hold spaces
_STANDARD_TAG: Final = "tag:yaml.org,2002:"

_Span = tuple[int, int, str]
"""Start and end of a scalar in the text, and what is shown in its place."""


def hide_secrets(text: str) -> str:
    """Return the text with the values of passwords and tokens replaced, also in comments and inside addresses.

    The names behind `!credential`, `!env` and `!file` stay: they are no secrets. Text that is not YAML is treated line
    by line; then more may be replaced than is secret.
    """
    try:
        spans = sorted(_SecretSpans(text).spans)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return _without_addresses(_hidden_by_lines(text))
    parts, end = [], 0
    for start, stop, shown in spans:
        if start >= end:
            parts += [_between(text[end:start]), shown]
            end = stop
    parts.append(_between(text[end:]))
    return "".join(parts)


@dataclass(slots=True)
class _Level:
    """A mapping or a list that is being read."""

    mapping: bool
    secret: bool
    anchor: str | None = None
    key: str | None = None
    """The key whose value comes next, in a mapping."""
    spans: list[_Span] = field(default_factory=list)

    @property
    def hides_next(self) -> bool:
        """Whether the next value is secret."""
        return self.secret or (self.mapping and self.key is not None and bool(_SECRET_KEY.search(self.key)))


class _SecretSpans:
    """Finds the scalars below secret keys, and addresses, in the events of a YAML text."""

    def __init__(self, text: str) -> None:
        """Read the text. Raises yaml.YAMLError."""
        self.spans: list[_Span] = []
        self._text = text
        self._levels = [_Level(mapping=False, secret=False)]
        self._anchors: dict[str, list[_Span]] = {}
        for event in _events(text):
            level = self._levels[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._levels.append(_Level(mapping, level.hides_next, event.anchor))
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                if level.hides_next:
                    self.spans += self._anchors.get(event.anchor or "", ())
                level.key = None
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, level)

    def _end(self) -> None:
        ended = self._levels.pop()
        self._levels[-1].spans += ended.spans
        self._levels[-1].key = None
        if ended.anchor is not None:
            self._anchors[ended.anchor] = ended.spans

    def _scalar(self, event: yaml.ScalarEvent, level: _Level) -> None:
        if level.mapping and level.key is None and not level.secret:
            level.key = event.value
            return
        secret, level.key = level.hides_next, None
        if event.tag is not None and event.tag != "!" and not event.tag.startswith(_STANDARD_TAG):
            return  # the name of a credential, a variable or a file
        assert event.start_mark is not None
        assert event.end_mark is not None
        start, stop = event.start_mark.index, event.end_mark.index
        written = self._text[start:stop]
        span = (start, stop, HIDDEN + ("\n" if written.endswith("\n") else ""))
        level.spans.append(span)
        if event.anchor is not None:
            self._anchors[event.anchor] = [span]
        if secret and event.value:
            self.spans.append(span)
        elif "://" in event.value:
            self.spans.append((start, stop, _shown_address(written)))


def _events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=yaml.SafeLoader)  # type: ignore[no-untyped-call,no-any-return,unused-ignore]


def _between(text: str) -> str:
    """Hide secrets of comments in the text between two scalars: a key that was switched off."""
    lines = (line.partition("#") for line in text.splitlines(keepends=True))
    return "".join(
        before + mark + _without_addresses(_SECRET_IN_LINE.sub(rf"\1{HIDDEN}", comment))
        for before, mark, comment in lines
    )


def _hidden_by_lines(text: str) -> str:
    """Hide what follows a secret key in its line, and in the lines after it that belong to its value."""
    lines = []
    below: int | None = None
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip(" -"))
        inside = below is not None and (indent > below or (indent == below and ":" not in line))
        if below is not None and (inside or not line.strip()):
            lines.append(f"{HIDDEN}\n" if line.strip() else line)
            continue
        below = indent if _SECRET_KEY.search(line) and ":" in line else None
        lines.append(_SECRET_IN_LINE.sub(rf"\1{HIDDEN}", line))
    return "".join(lines)


def _shown_address(written: str) -> str:
    quote = written[-1] if written[-1:] in {"'", '"'} else ""
    return shown_url(written.removesuffix(quote)) + quote


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub(lambda match: shown_url(match[0]), text)
