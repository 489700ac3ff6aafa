"""What of a pipeline with mistakes in it is sound, so that the files and labels it names are looked at all the same."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edge_classifierd.config.descriptions import close_match
from edge_classifierd.config.loading.error_messages import is_echo
from edge_classifierd.config.sections.key_paths import locate
from edge_classifierd.config.sections.pipeline import ModelSection, PipelineSection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from edge_classifierd.config.sections.key_paths import KeyPath, Location

_ROUNDS = 8  # what is left out can break a rule between keys, which costs the other key in the next round
_CHOOSE_MODEL = {"path", "labels", "cpu_model", "locale"}
# Nothing is ever said of these.
_SOME_NAME = "unnamed"
_SOME_SOURCE = {"type": "picamera2"}
_SOME_LABEL = 0
_SOME_WATCH = {"name": _SOME_NAME, "labels": [_SOME_LABEL]}


@dataclass(frozen=True, slots=True)
class PartialPipeline:
    """A pipeline without its mistakes: each wrong key left out, each wrong item of a list replaced by a right one."""

    section: PipelineSection
    clean: bool
    """Whether nothing had to be left out."""
    model_known: bool
    """Whether no mistake can be about which model and which labels are meant."""


def sound_part(data: object, context: dict[str, Any]) -> PartialPipeline | None:
    """What pydantic accepts of one pipeline's plain data; None when that is nothing."""
    kept = copy.deepcopy(data)
    left_out: set[KeyPath] = set()
    for _ in range(_ROUNDS):
        try:
            section = PipelineSection.model_validate(kept, context=context)
        except ValidationError as error:
            if not isinstance(kept, dict):
                return None
            left_out |= set(_leave_out(kept, error.errors(include_url=False)))
        else:
            return PartialPipeline(section, not left_out, not any(_about_model(path, data) for path in left_out))
    return None


def _leave_out(kept: dict[str, Any], errors: list[ErrorDetails]) -> Iterable[KeyPath]:
    wrong = [
        location for error in errors if not is_echo(error, location := locate(PipelineSection, error["loc"], kept))
    ]
    for location in wrong:
        with suppress(LookupError, TypeError):  # what another one has taken along; the next round tells
            _amend(kept, location)
    return [location.path for location in wrong]


def _amend(kept: dict[str, Any], location: Location) -> None:
    match location.path:
        case ():  # as a whole
            kept.clear()
        case ("name",):
            kept["name"] = _SOME_NAME
        case ("source",) | ("source", "type" | "path" | "url" | "device"):
            kept["source"] = dict(_SOME_SOURCE)
        case ("source", *_):
            _remove(kept, location.path)
            if kept["source"].get("type") == "folder":
                kept["source"]["recursive"] = True  # which may have been meant
        case ("allow" | "deny" as key, int(number)) if isinstance(kept[key], list):
            kept[key][number] = _SOME_LABEL
        case ("watches", int(number)):
            kept["watches"][number] = copy.deepcopy(_SOME_WATCH)
        case ("watches", int(number), "labels", int(item)) if isinstance(kept["watches"][number]["labels"], list):
            kept["watches"][number]["labels"][item] = _SOME_LABEL
        case ("watches", int(number), "name" | "labels" as key, *_):
            watch = kept["watches"][number] or {}  # an item that is empty is a watch that lacks everything
            kept["watches"][number] = {**watch, key: copy.deepcopy(_SOME_WATCH[key])}
        case path:
            _remove(kept, path)


def _remove(kept: dict[str, Any], path: KeyPath) -> None:
    """Without the last key of `path`; an item goes with its whole list."""
    while len(path) > 1 and isinstance(path[-1], int):
        path = path[:-1]
    parent: Any = kept
    for key in path[:-1]:
        if not parent:  # an empty section, which is one of defaults
            return
        parent = parent[key]
    if isinstance(parent, dict):
        parent.pop(path[-1], None)


def _about_model(path: KeyPath, data: object) -> bool:
    match path:
        case ("model",):
            return True
        case ("model", str(key), *_):
            fields = ModelSection.model_fields
            return (key if key in fields else close_match(key, fields)) in {*_CHOOSE_MODEL, None}
        case (str(key),) if key not in PipelineSection.model_fields:
            unsaid = isinstance(data, dict) and "model" not in data
            return unsaid and close_match(key, PipelineSection.model_fields) in {"model", None}
        case _:
            return False
