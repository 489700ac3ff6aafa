"""Commands: what each changes, and how its MQTT message is parsed and validated."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from edge_classifierd.config.sections.pipeline import RegionSection
from edge_classifierd.model.taught import TAUGHT_NAME
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_classifierd.mqtt.message import Incoming
    from edge_classifierd.mqtt.topics import Topics

_MAX_PAYLOAD_BYTES: Final = 256

_SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_RESET: Final = "reset"
_PRESS: Final = frozenset({"", "press", "on", "1", "true"})


@dataclass(frozen=True, slots=True)
class SetEnabled:
    """Switch a pipeline's camera on or off; None restores the configured value."""

    pipeline: str
    enabled: bool | None


@dataclass(frozen=True, slots=True)
class SetThreshold:
    """Change a watch's threshold (above 0, at most 1); None restores the configured value."""

    pipeline: str
    watch: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class SetRegion:
    """Change the part of the picture that is classified; None restores the configured region."""

    pipeline: str
    region: Region | None


@dataclass(frozen=True, slots=True)
class SetModel:
    """Use a model that was taught on this device; None restores the configured model."""

    pipeline: str
    model: str | None


@dataclass(frozen=True, slots=True)
class TakePicture:
    """Publish the pipeline's next frame on `image`."""

    pipeline: str


@dataclass(frozen=True, slots=True)
class LookNow:
    """Classify the pipeline's next frame although nothing moves. The page has this command, MQTT has not."""

    pipeline: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Reload the configuration."""


Command = SetEnabled | SetThreshold | SetRegion | SetModel | TakePicture | LookNow | Reload


class RefusedError(Exception):
    """A command that cannot be executed; `str()` is the sentence for the log."""


def parse(topics: Topics, incoming: Incoming, watches: Mapping[str, frozenset[str]]) -> Command:
    """Return the command in a message.

    Raises:
        RefusedError: The message is not a command; its text gives the value and the allowed values.
    """
    if incoming.retained:
        raise RefusedError("retained messages are not executed, because they may be old; publish it without retain")
    if len(incoming.payload) > _MAX_PAYLOAD_BYTES:
        raise RefusedError(f"{len(incoming.payload):,} bytes are too many for a command")
    try:
        text = incoming.payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RefusedError("the payload is not text") from error
    levels = incoming.topic.removeprefix(f"{topics.base}/").split("/")
    match levels:
        case ["reload", "set"]:
            _check_press(text)
            return Reload()
        case [pipeline, "enabled", "set"]:
            return SetEnabled(_check_pipeline(pipeline, watches), _parse_switch(text))
        case [pipeline, "region", "set"]:
            return SetRegion(_check_pipeline(pipeline, watches), _parse_region(text))
        case [pipeline, "model", "set"]:
            return SetModel(_check_pipeline(pipeline, watches), _parse_model(text))
        case [pipeline, "snapshot", "set"]:
            _check_press(text)
            return TakePicture(_check_pipeline(pipeline, watches))
        case [pipeline, watch, "threshold", "set"]:
            command = SetThreshold(pipeline, watch, None)
            check(command, watches)
            return replace(command, threshold=_parse_threshold(text))
    raise RefusedError("no such command; there are enabled, region, model, snapshot and, of a watch, threshold")


def check(command: Command, watches: Mapping[str, frozenset[str]]) -> None:
    """Raise RefusedError when a command names no pipeline or watch of these, or its value is not allowed."""
    if isinstance(command, Reload):
        return
    _check_pipeline(command.pipeline, watches)
    if isinstance(command, SetThreshold):
        if command.watch not in watches[command.pipeline]:
            raise RefusedError(f"no watch {command.watch!r:.60}; there are {_join(watches[command.pipeline])}")
        if command.threshold is not None:
            _check_threshold(command.threshold, repr(command.threshold))
    if isinstance(command, SetModel) and command.model is not None:
        _check_model(command.model)


def _check_pipeline(pipeline: str, watches: Mapping[str, frozenset[str]]) -> str:
    if pipeline not in watches:
        raise RefusedError(f"no pipeline {pipeline!r:.60}; there are {_join(watches)}")
    return pipeline


def _join(names: Mapping[str, frozenset[str]] | frozenset[str]) -> str:
    return ", ".join(sorted(names)[:10])


def _parse_switch(text: str) -> bool | None:
    if text.lower() == _RESET:
        return None
    enabled = _SWITCH.get(text.lower())
    if enabled is None:
        raise RefusedError(f"{text!r:.60} is not ON, OFF or RESET")
    return enabled


def _check_press(text: str) -> None:
    if text.lower() not in _PRESS:
        raise RefusedError(f"{text!r:.60} is not PRESS")


def _parse_threshold(text: str) -> float | None:
    if text.lower() == _RESET:
        return None
    try:
        threshold = float(text)
    except ValueError as error:
        raise RefusedError(f"{text!r:.60} is neither a number above 0 and at most 1 nor RESET") from error
    _check_threshold(threshold, repr(text))
    return threshold


def _check_threshold(threshold: float, written: str) -> None:
    if not 0 < threshold <= 1:  # also refuses nan
        raise RefusedError(f"{written:.60} is not above 0 and at most 1")


def _parse_model(text: str) -> str | None:
    if text.lower() == _RESET:
        return None
    _check_model(text)
    return text


def _check_model(name: str) -> None:
    if not TAUGHT_NAME.fullmatch(name):
        raise RefusedError(f"{name!r:.60} is neither the name of a taught model nor RESET")


def _parse_region(text: str) -> Region | None:
    """Return the region, with four decimals; the keys and their rules are those of the configuration."""
    if text.lower() == _RESET:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    return read_region(document)


def read_region(document: object) -> Region:
    """Return the region of a JSON document, with four decimals. Raises RefusedError."""
    try:
        section = RegionSection.model_validate(document if isinstance(document, dict) else str(document))
    except ValueError as error:  # pydantic's
        raise RefusedError(
            f"{document!r:.120} is neither RESET nor a region inside the picture, such as"
            ' {"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.5}'
        ) from error
    x, y = round(section.x, 4), round(section.y, 4)
    width, height = min(round(section.width, 4), round(1 - x, 4)), min(round(section.height, 4), round(1 - y, 4))
    if not (x < 1 and y < 1 and width > 0 and height > 0):
        raise RefusedError(f"{document!r:.120} is smaller than 0.0001 of the picture")
    return Region(x, y, width, height)
