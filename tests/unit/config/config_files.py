"""Configuration files for tests: written, loaded, and damaged in every way that a seed picks."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.config.loading.load import Document, load
from edge_classifierd.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

MINIMAL = """\
pipelines:
  - name: driveway
    source: {type: folder, path: pictures}
"""

_RICH = """\
device: {id: porch, name: Porch}
mqtt:
  host: broker.local
  username: edge
  password: hunter2
  tls: {ca_file: ca.pem}
outbox: {max_events: 1000, max_age: 7d}
pipelines:
  - &first
    name: driveway
    source: {type: stream, url: "rtsp://u:p@camera/1", rotation: 90, stall_timeout: 5s}
    region: {x: 0.1, y: 0.2, width: 0.8, height: 0.7}
    watches:
      - {name: dog, labels: ["*terrier*", 207, "151-268"], threshold: 0.6, release: 0.4, confirm: 3, cooldown: 30s}
    snapshot: {enabled: yes, max_width: 320}
  - <<: *first
    name: garden
    source: {type: v4l2}
"""

_TOKENS = [
    "&a ",
    "*a",
    "<<: *a",
    "<<: [*a, 5]",
    "!env HOME",
    "!env NOT_SET_AT_ALL",
    "!file /dev/zero",
    "!file .",
    "!file /etc/hostname",
    "!credential ../../etc/passwd",
    "!!python/object/apply:os.system [true]",
    "!!binary AAAA",
    "!!int x",
    "!!float",
    "!<x> y",
    "[",
    "]",
    "{",
    "}",
    "? ",
    "- ",
    ": ",
    "|\n",
    ">-\n",
    "%YAML 9.9\n",
    "%TAG ! x\n",
    "---\n",
    "...\n",
    "\t",
    "\0",
    "\ufeff",
    "\x85",
    "\u2028",
    "\ud7ff",
    "\ufffe",
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    '"\\0"',
    "'",
    '"',
    "#",
    "`",
    "@",
    "%",
    ".inf",
    ".nan",
    "1e999",
    "9" * 5000,
    "-" * 300,
    "0x1F",
    "0755",
    "1:30",
    "on",
    "no",
    "null",
    "~",
    "true",
    "=",
    "\U0001f415",
    "x" * 3000,
    "{a: " * 40,
    "[" * 5000,
    "- " * 3000,
    "type: folder",
    "pipelines:",
    "watches: [[[]]]",
    "threshold: high",
    "name: {}",
    "labels: *a",
    "5: 5",
]


def written(folder: Path, text: str | bytes) -> Path:
    """The path of a private configuration file with this text."""
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def loaded(folder: Path, text: str | bytes) -> Document:
    """The document that this text makes."""
    return load(written(folder, text))


def problems(folder: Path, text: str | bytes) -> tuple[Problem, ...]:
    """What is wrong with this text; fails when nothing is."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text)
    return caught.value.problems


def sentences(folder: Path, text: str | bytes) -> list[str]:
    """The same as `LINE:COLUMN: key: message`."""
    return [str(problem).removeprefix(f"{problem.file}:") for problem in problems(folder, text)]


def damaged(seed: int) -> bytes:
    """A file that is somewhere between nearly right and hostile; the same for the same seed."""
    source = random.Random(seed)
    text = source.choice(_SHAPES)(source)
    for _ in range(source.choice([0, 0, 1, 1, 2, 5])):
        text = _mutated(source, text)
    content = text.encode(
        source.choice(["utf-8"] * 12 + ["utf-16", "utf-16-le", "utf-32", "latin-1"]), errors="replace"
    )
    for _ in range(source.choice([0, 0, 0, 0, 1, 3])):
        at = source.randrange(len(content) + 1)
        content = content[:at] + source.randbytes(source.randrange(4)) + content[at + source.randrange(3) :]
    return content


def _mutated(source: random.Random, text: str) -> str:
    lines = text.split("\n")
    at = source.randrange(len(lines))
    place = source.randrange(len(text) + 1)
    match source.randrange(7):
        case 0:
            return text[:place] + source.choice(_TOKENS) + text[place:]
        case 1:
            return text[:place] + text[place + source.randrange(20) :]
        case 2:
            lines.insert(source.randrange(len(lines)), lines[at])
        case 3:
            lines[at] = " " * source.randrange(6) + lines[at].strip()
        case 4:
            lines[at] = lines[at].partition(":")[0] + ": " + source.choice(_TOKENS)
        case 5:
            del lines[at]
        case _:
            return text[:place]
    return "\n".join(lines)


def _alias_bomb(source: random.Random) -> str:
    width, depth = source.randrange(2, 12), source.randrange(2, 30)
    rows = ["a0: &a0 [x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(rows) + "\n"


def _merge_bomb(source: random.Random) -> str:
    width, depth = source.randrange(2, 12), source.randrange(2, 30)
    rows = ["a0: &a0 {k: v}"]
    rows += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * width)}], k{n}: v}}" for n in range(1, depth)]
    return "\n".join(rows) + "\n"


def _deep(source: random.Random) -> str:
    depth = source.choice([10, 31, 32, 33, 100, 10_000, 200_000])
    opening, closing = source.choice([("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("[{a: ", "}]")])
    return opening * depth + closing * source.choice([0, depth])


def _wide(source: random.Random) -> str:
    count = source.choice([1000, 20_000, 90_000])
    row = source.choice(["key{}: 5", "- {}", "? [{}]", "pipelines: [{}]", "same: {}"])
    return "\n".join(row.format(n) for n in range(count))[:999_000]


def _random_value(source: random.Random, depth: int = 0) -> str:
    kind = source.randrange(8 if depth < 6 else 5)
    if kind < 3:
        return source.choice([*_TOKENS[-30:], "5", "0.5", "dog", "porch", "30s", "-1"])
    if kind < 5:
        return (
            '"'
            + "".join(source.choices(string.printable.replace('"', "").replace("\\", ""), k=source.randrange(9)))
            + '"'
        )
    if kind == 5:
        return "[" + ", ".join(_random_value(source, depth + 1) for _ in range(source.randrange(5))) + "]"
    keys = ["name", "source", "type", "path", "url", "watches", "labels", "threshold", "release", "region", "x", "fps"]
    pairs = (f"{source.choice(keys)}: {_random_value(source, depth + 1)}" for _ in range(source.randrange(6)))
    return "{" + ", ".join(pairs) + "}"


def _random_file(source: random.Random) -> str:
    sections = ["device", "mqtt", "outbox", "pipelines", "pipelines", "unknown"]
    return "".join(f"{source.choice(sections)}: {_random_value(source)}\n" for _ in range(source.randrange(5)))


def _example(_: random.Random) -> str:
    return (Path(__file__).parents[3] / "config/example.yaml").read_text(encoding="utf-8")


_SHAPES: list[Callable[[random.Random], str]] = [
    *[lambda _: _RICH] * 8,
    *[lambda _: MINIMAL] * 4,
    *[_example] * 3,
    *[_random_file] * 8,
    _alias_bomb,
    _merge_bomb,
    _deep,
    _wide,
    lambda source: source.randbytes(source.randrange(2000)).decode("latin-1"),
    lambda source: "".join(source.choices(_TOKENS, k=source.randrange(30))),
]


def pipeline_with(rest: str) -> str:
    return f"pipelines: [{{name: a, source: {{type: v4l2}}, {rest}}}]"


def pipeline_on_yard(keys: str, source: str = "{type: v4l2}") -> str:
    return f"cameras: [{{name: yard, source: {source}}}]\npipelines: [{{name: a, {keys}}}]"


def two_pipelines(first: str, second: str) -> str:
    return f"pipelines: [{{name: a, source: {first}}}, {{name: b, source: {second}}}]"


def watch_with(rest: str) -> str:
    return pipeline_with(f"watches: [{{name: w, labels: [dog], {rest}}}]")
