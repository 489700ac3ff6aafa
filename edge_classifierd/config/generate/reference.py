"""The reference page: every section as a table of its keys, made from the models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from pydantic_core import PydanticUndefined

from edge_classifierd.config.descriptions import expected_item_of, expected_of, is_list, takes_null
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.durations import Duration, format_duration
from edge_classifierd.config.sections.key_paths import keys_of, sections_of, types_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic.fields import FieldInfo

    from edge_classifierd.config.sections.base import Section

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m edge_classifierd.config.generate.render` from edge_classifierd/config/sections: do not edit. -->

One YAML file, by default `/etc/edge-classifierd/config.yaml`, says everything. Only `pipelines[].name` and
`pipelines[].source` have no default. [config/example.yaml](../config/example.yaml) shows every key at its place, and
[configuration.schema.json](configuration.schema.json) lets an editor complete and check the file: put
`# yaml-language-server: $schema=…` with its address in the first line.

```yaml
pipelines:
  - name: driveway
    source: {type: v4l2}
    watches:
      - {name: dog, labels: ["151-268"], confirm: 3, cooldown: 30s}
```

`edge-classifierd check` reports every mistake at once, each as `FILE:LINE:COLUMN: key.path: what is wrong`. Unknown
keys, wrong types and combinations that cannot work are errors; nothing is guessed and nothing falls back.

## How values are written

- **Durations** are numbers of seconds or a number with a unit: `250ms`, `30s`, `5m`, `2h`, `14d`.
- **Paths** of things that you supply (models, labels, pictures, videos, certificates, `!file`) begin at the
  configuration file's folder; `outbox.path` begins at the state directory: `$EDGE_CLASSIFIERD_STATE`, else
  systemd's `$STATE_DIRECTORY`, else `/var/lib/edge-classifierd`. `~` is the home directory.
- **Secrets** stay out of the file with a tag before a name. The text that it stands for loses one newline at
  its end, is never shown, and is read like a quoted text where text is wanted, like an unquoted one elsewhere
  (`port: !env MQTT_PORT`).
  - `!credential NAME`: the systemd credential of this name (`LoadCredential=NAME:/path` in the unit);
  - `!env NAME`: an environment variable;
  - `!file PATH`: a file's content.

  A file that every account of the machine may read, and that holds a password itself, earns a warning.
- **Labels** (`watches[].labels`, `allow`, `deny`) are labels of the model, globs over them (`"*terrier*"`),
  class indices (`151`), or ranges of indices (`"151-268"`). A number without quotes is always an index.
- **Booleans** are `true` and `false`; where one is wanted, `yes`, `no`, `on` and `off` are understood too.
  Elsewhere these words are text, as are `1:30`, `0755` and `2026-11-21`: unquoted values follow YAML 1.2, which
  has none of YAML 1.1's surprises. Text that consists of digits, such as a user name, needs quotes.
- An **empty section** (`outbox:` with nothing after it) means all of its defaults.
- Anchors, aliases and `<<` work. The file may hold 1 MB, 32 levels and 20,000 values.
"""


def render_reference() -> str:
    """The page as Markdown."""
    return _INTRODUCTION + "".join(_sections(Configuration, ""))


def default_words(field: FieldInfo) -> str:
    """A field's default as the file would have it, or in words where other things decide it; empty when required."""
    if match := re.search(r"Default: (.*)\.$", field.description or ""):
        return match[1]
    if field.is_required():
        return ""
    if field.default is PydanticUndefined or field.default == {}:
        return "its own defaults"
    if any(mark in field.metadata for mark in get_args(Duration)[1:]) and isinstance(field.default, float):
        return f"`{format_duration(field.default)}`"
    return f"`{yaml_scalar(field.default)}`"


def meaning(field: FieldInfo) -> str:
    """A field's description without its default."""
    return re.sub(r" Default: .*\.$", "", field.description or "")


def yaml_scalar(value: str | float | tuple[object, ...] | Path | None) -> str:
    """A default in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def _sections(section: type[Section], path: str) -> Iterator[str]:
    if path:
        yield f"\n## `{path}`\n\n{_paragraph(section)}\n"
    else:
        yield "\n## The file\n"
    yield "\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n"
    below = []
    for name in keys_of(section):
        field = section.model_fields[name]
        sections = sections_of(field.annotation)
        inner = f"{path}.{name}".lstrip(".") + ("[]" if is_list(field) else "")
        choices = [(inner if len(sections) == 1 else f"{inner} (type: {_type(s)})", s) for s in sections]
        below += choices
        value = _value(field, [title for title, _ in choices])
        cells = (f"`{name}`", value, default_words(field) or "**required**", meaning(field))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    for title, inner_section in below:
        yield from _sections(inner_section, title)


def _value(field: FieldInfo, titles: list[str]) -> str:
    links = " or ".join(f"[`{title}`](#{_anchor(title)})" for title in titles)
    if is_list(field):
        return f"a list of {links}" if links else f"a list; each item {expected_item_of(field)}"
    if links:
        return links + (", or null" if takes_null(field) else "")
    return expected_of(field)


def _type(section: type[Section]) -> str:
    return str(types_of([section])[0])


def _anchor(title: str) -> str:
    """As GitHub makes them from headings."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _paragraph(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split())
