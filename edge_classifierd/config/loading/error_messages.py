"""Turns pydantic's errors into plain sentences that never show a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_classifierd.config.descriptions import close_match, expected_item_of, expected_of
from edge_classifierd.config.loading.yaml_values import plain_value
from edge_classifierd.config.sections.camera_addresses import shown_url
from edge_classifierd.config.sections.key_paths import Location, keys_of, locate, sections_of, types_of
from edge_classifierd.errors import shortened

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from edge_classifierd.config.loading.yaml_values import Values
    from edge_classifierd.config.sections.base import Section


def holds_secret(location: Location) -> bool:
    """Return whether the value at this location must never be shown."""
    return location.field is not None and "SecretStr" in repr(location.field.annotation)


def locate_error(root: type[Section], error: ErrorDetails, values: Values) -> Location:
    """Return the location of an error in the file. A union without a usable `type` is an error of that key."""
    loc = error["loc"]
    if error["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        loc = (*loc, "type")
    return locate(root, loc, values.data)


def is_follow_up(error: ErrorDetails, location: Location) -> bool:
    """Return whether the error only follows from others: pydantic calls a list of wrong items "too short"."""
    return error["type"] == "too_short" and isinstance(location.value, list) and bool(location.value)


def sentence(  # noqa: PLR0911 - one return a kind of error
    root: type[Section], error: ErrorDetails, location: Location, values: Values
) -> str:
    """Return what is wrong, the value and what is allowed. The caller puts the key's name in front."""
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "missing":
            assert location.field is not None
            return f"is missing; it must be {expected_of(location.field)}"
        case "extra_forbidden":
            return _unknown_key(location)
        case "union_tag_not_found" | "union_tag_invalid":
            allowed = _types(locate(root, location.path[:-1], values.data).field)
            words = "one of " + ", ".join(str(name) for name in allowed)
            if kind == "union_tag_not_found":
                return f"is missing; it must be {words}"
            remedy = _suggestion(location.value, allowed) if location.path not in values.sources else ""
            return f"must be {words}, not {shown(location, values)}{remedy}"
        case "rule":
            return error["msg"]
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "too_long" if isinstance(location.value, list):
            return f"has {len(location.value):,} items; at most {context['max_length']:,} are allowed"
        case "too_long" | "string_too_long":
            return f"is too long; at most {context['max_length']:,} characters are allowed"
        case _:
            remedy = _remedy(kind, context, location) if location.path not in values.sources else ""
            return f"must be {_expectation(location)}, not {shown(location, values)}{remedy}"


def shown(location: Location, values: Values) -> str:  # noqa: PLR0911 - one return a kind of value
    """Return the value as a message may show it."""
    value = location.value
    if location.path in values.sources:
        return f"the content of {values.sources[location.path]}"
    if value is None:
        return "null (nothing)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a mapping of keys" if isinstance(value, dict) else "a list"
    if holds_secret(location):
        return "a number" if isinstance(value, int | float) else "this"
    if isinstance(value, str):
        return f"'{shortened(shown_url(value))}'"
    return shortened(str(value))


def _types(field: FieldInfo | None) -> list[object]:
    return types_of(sections_of(field.annotation)) if field else []


def _expectation(location: Location) -> str:
    if location.field is None:
        return "a mapping of keys"
    return expected_item_of(location.field) if location.item else expected_of(location.field)


def _unknown_key(location: Location) -> str:
    key = str(location.path[-1])
    known = keys_of(location.section) if location.section else []
    if close := close_match(key, known):
        return f"unknown key `{shortened(key)}`; did you mean `{close}`?"
    return f"unknown key `{shortened(key)}`; allowed here are {', '.join(known)}"


def _suggestion(value: object, allowed: list[object]) -> str:
    close = close_match(value, [str(name) for name in allowed]) if isinstance(value, str) else None
    return f"; did you mean `{close}`?" if close else ""


def _remedy(kind: str, context: dict[str, Any], location: Location) -> str:
    value = location.value
    if kind == "expected":
        return str(context.get("remedy", ""))
    if kind == "literal_error" and location.field is not None:
        words = _expectation(location).removeprefix("one of ").removesuffix(", or null").split(", ")
        return _suggestion(value, list(words))
    if kind == "string_type" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if kind in {"int_type", "float_type"} and isinstance(value, str) and not isinstance(plain_value(value), str):
        return "; write it without quotes"
    if kind == "tuple_type" and not isinstance(value, dict) and value is not None:
        return "; put it in [ ]"
    return ""
