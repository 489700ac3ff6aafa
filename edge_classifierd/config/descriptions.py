"""Describes the allowed values of a field in words, for error messages and the reference."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, GetJsonSchemaHandler, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Expected:
    """Annotation with the description of a type that does not describe itself: `a duration such as 30s`."""

    words: str


@dataclass(frozen=True, slots=True)
class NotNull:
    """Annotation of a key that may be absent but not null; `config.loading.cross_checks` refuses null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema without null, with `not` for editors."""
        section = handler(schema)
        if {"type": "null"} in section.get("anyOf", []):
            (section,) = (choice for choice in section["anyOf"] if choice != {"type": "null"})
        return {**section, "not": {"type": "null"}}


_SIMPLE: dict[type, str] = {
    bool: "true or false",
    str: "text",
    SecretStr: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
}


def expected_of(field: FieldInfo) -> str:
    """Return what a field accepts: `a number above 0 and at most 1`, `one of crop, letterbox, stretch`."""
    return _expected(field.annotation, field.metadata)


def takes_null(field: FieldInfo) -> bool:
    """Return whether null is allowed and means the same as an absent key."""
    return field.default is None and NotNull() not in field.metadata


def is_list(field: FieldInfo) -> bool:
    """Return whether the field is a list."""
    return get_origin(field.annotation) is tuple


def expected_item_of(field: FieldInfo) -> str:
    """Return what one item of a list field accepts."""
    return _expected(get_args(field.annotation)[0], ())


def close_match(word: str, known: Iterable[str]) -> str | None:
    """Return the item of `known` that is most similar to `word`, None when none is similar."""
    words = {other.lower(): other for other in known}
    close = difflib.get_close_matches(word[:100].lower(), words, n=1)
    return words[close[0]] if close else None


def _expected(annotation: object, metadata: Iterable[object]) -> str:  # noqa: PLR0911 - one return a kind of type
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _expected(inner, (*metadata, *more))
    for mark in metadata:
        if isinstance(mark, Expected):
            bounds = _bounds(metadata) if annotation is float else ""
            return f"{mark.words},{bounds}" if bounds else mark.words
    arguments = get_args(annotation)
    if get_origin(annotation) in {Union, UnionType}:
        others = [a for a in arguments if a is not NoneType]
        words = " or ".join(_expected(a, metadata) for a in others) if len(others) == 1 else "a mapping of keys"
        return f"{words}, or null" if NoneType in arguments and NotNull() not in metadata else words
    if get_origin(annotation) is Literal and len(arguments) == 1:
        return str(arguments[0])
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if get_origin(annotation) is tuple:
        return "a list"
    if isinstance(annotation, type) and annotation in _SIMPLE:
        return _SIMPLE[annotation] + (_bounds(metadata) if annotation in {int, float} else "")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping of keys"
    raise TypeError(f"no words for {annotation!r}: give it an Expected annotation")


def _bounds(metadata: Iterable[object]) -> str:
    low = high = ""
    inclusive = False
    for mark in metadata:
        for bound in (mark, *getattr(mark, "metadata", ())):
            match bound:
                case Ge(ge=value):
                    low, inclusive = f"{value}", True
                case Gt(gt=value):
                    low, inclusive = f"{value}", False
                case Le(le=value):
                    high = f"at most {value}"
                case Lt(lt=value):
                    high = f"below {value}"
                case _:
                    pass
    if inclusive and high.startswith("at most "):
        return f" between {low} and {high.removeprefix('at most ')}"
    words = [word for word in ((f"at least {low}" if inclusive else f"above {low}") if low else "", high) if word]
    return (" " + " and ".join(words)) if words else ""
