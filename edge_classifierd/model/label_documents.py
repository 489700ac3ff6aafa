"""Labels in JSON, YAML and pbtxt files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DOCUMENT: Final = 8_000_000
_MAX_DEPTH: Final = 20
# Where tools put the labels, the likeliest first: Ultralytics, Teachable Machine, Lobe, Hugging Face, Keras, COCO.
_LABEL_KEYS: Final = (
    "names", "labels", "Label", "label", "classes", "class_names", "id2label", "class_indices", "label2id",
    "label_map", "categories", "items", "classification",
)  # fmt: skip
_NAME_KEYS: Final = ("name", "label", "class_name", "class", "display_name", "displayName", "title")
_NUMBER_KEYS: Final = ("id", "index", "class_id", "label_id")
_ITEM: Final = re.compile(r"\bitem\s*[:]?\s*\{(.*?)\}", re.DOTALL)
_ITEM_FIELD: Final = re.compile(r"""\b(id|name|display_name)\s*:\s*(?:(\d{1,7})|"([^"\n]*)"|'([^'\n]*)')""")
CODE: Final = re.compile(r"/[mgt]/\w+|n\d{8}")
"""A label that is an identifier, of the Knowledge Graph (`/m/01_72_`) or of WordNet (`n02123045`)."""


def read_document(text: str, file: str) -> object:
    """Return the content of a JSON or YAML text. Raises ModelError when it is neither."""
    if len(text) > _MAX_DOCUMENT:
        raise ModelError(f"{file}: is larger than {_MAX_DOCUMENT // 1_000_000} MB; write one label a line")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ModelError(f"{file}: is nested too deeply; write one label a line") from error
    except ValueError as error:
        if file.lower().endswith(".json"):
            raise ModelError(f"{file}: is not JSON: {error}") from error
    return _yaml(text, file)


def labels_in(document: object) -> list[tuple[int, str]] | None:
    """Return the labels of a document with their indices, in its order; None when it contains none.

    A list of names, a map {"0": "cat"} or {"cat": 0}, a list of objects with a name, or one of these under a key that
    tools use (`names`, `labels`, `classes` …).
    """
    return _labels(document, _MAX_DEPTH)


def read_pbtxt(text: str) -> list[tuple[int, str]]:
    """Return the labels of a label map in protobuf's text format; ids count from 1 there, as a rule."""
    found = []
    for item in _ITEM.finditer(text):
        fields = {one[1]: one[2] or one[3] or one[4] or "" for one in _ITEM_FIELD.finditer(item[1])}
        name, shown = fields.get("name", ""), fields.get("display_name", "")
        if fields.get("id", "").isdecimal():
            found.append((int(fields["id"]), (shown if CODE.fullmatch(name) else name) or shown))
    return found


def _labels(value: object, depth: int) -> list[tuple[int, str]] | None:
    if isinstance(value, list) and value:
        return _from_list(value)
    return _from_map(value, depth) if isinstance(value, dict) and value and depth else None


def _from_map(value: dict[Any, Any], depth: int) -> list[tuple[int, str]] | None:
    if all(_is_index(key) for key in value):
        named = [(int(key), _name(name)) for key, name in value.items()]
        return [(index, name) for index, name in named if name is not None] if all(n for _, n in named) else None
    if all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in value.values()):
        return [(number, str(name)) for name, number in value.items()]
    for key in _LABEL_KEYS:
        found = _labels(value.get(key), depth - 1)
        if found:
            return found
    inner = (_labels(one, depth - 1) for one in value.values() if isinstance(one, dict))
    return next((found for found in inner if found), None)


def _from_list(value: list[object]) -> list[tuple[int, str]] | None:
    numbers = [_number(one) for one in value]
    names = [_name(one) for one in value]
    if not all(names):
        return None
    if all(number is not None for number in numbers):
        return [(number or 0, name or "") for number, name in zip(numbers, names, strict=True)]
    return [(index, name or "") for index, name in enumerate(names)]


def _number(value: object) -> int | None:
    if not isinstance(value, dict):
        return None
    return next((int(value[key]) for key in _NUMBER_KEYS if _is_index(value.get(key))), None)


def _name(value: object) -> str | None:
    """Return the name in a list's or map's entry: text, `["n02123045", "tabby"]`, or an object with a name."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return str(value[-1])
    if isinstance(value, dict):
        return next((str(value[key]) for key in _NAME_KEYS if isinstance(value.get(key), str) and value[key]), None)
    return None


def _is_index(key: object) -> bool:
    if isinstance(key, bool):
        return False
    return (isinstance(key, int) and key >= 0) or (
        isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 8
    )


def _yaml(text: str, file: str) -> object:
    import yaml  # noqa: PLC0415 - label files in YAML are rare

    try:
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), file)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: is neither JSON nor YAML; write one label a line") from error


def _check_events(events: Iterator[object], file: str) -> None:
    """Refuse what could take much memory or time to build: references and deep nesting."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind in {"SequenceStartEvent", "MappingStartEvent"}
        depth -= kind in {"SequenceEndEvent", "MappingEndEvent"}
        if kind == "AliasEvent" or depth > _MAX_DEPTH:
            raise ModelError(f"{file}: has references or is nested too deeply; write one label a line")
