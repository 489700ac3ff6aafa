"""Loads a configuration file: returns a valid Document, or raises every mistake at once, each with its place."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from edge_classifierd.config.loading.cross_checks import cross_check
from edge_classifierd.config.loading.error_messages import holds_secret, is_follow_up, locate_error, sentence
from edge_classifierd.config.loading.read_file import UnreadableError, decode, read_small_file
from edge_classifierd.config.loading.yaml_tree import Place, compose
from edge_classifierd.config.loading.yaml_values import Values, plain_value, read_values
from edge_classifierd.config.sections.base import FROM_OTHERS, Section
from edge_classifierd.config.sections.camera_addresses import mask_userinfo
from edge_classifierd.config.sections.cameras import CameraSection, with_source
from edge_classifierd.config.sections.configuration import Configuration
from edge_classifierd.config.sections.key_paths import format_key, locate, parse_key
from edge_classifierd.config.sections.paths import FOLDER, STATE, state_directory
from edge_classifierd.config.sections.pipeline import PipelineSection
from edge_classifierd.errors import ConfigurationError, Problem, counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from edge_classifierd.config.sections.key_paths import KeyPath

T = TypeVar("T", bound=Section)

MAX_BYTES = 1_000_000
MAX_PROBLEMS = 100
"""Further problems are counted, not listed."""

_MOST_ITEMS = 64  # as many pipelines or cameras as a configuration may have
_PLAIN_ERRORS = {"int_type", "float_type", "bool_type", "literal_error", "expected", "int_from_float"}


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded configuration with the place of each key."""

    file: str
    """The path as the user gave it."""
    configuration: Configuration
    warnings: tuple[Problem, ...] = ()
    pipelines: tuple[tuple[str, PipelineSection], ...] = ()
    """Each pipeline with its key, `pipelines[0]`."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """The key of each camera, `cameras[0]`, by its name."""
    _values: Values = field(default_factory=Values, repr=False, compare=False)  # repr: the values hold secrets

    def problem(self, key: str, message: str, *, temporary: bool = False, awaited: bool = False) -> Problem:
        """Return a problem at `key` (`pipelines[0].watches[1].labels[2]`), or at the nearest parent in the file."""
        place = _place_of(parse_key(key), self._values)
        return Problem(self.file, place.line, place.column, key, message, temporary, awaited)

    def source_key(self, key: str, pipeline: PipelineSection) -> str:
        """Return the key of a pipeline's source: `pipelines[0].source`, or `cameras[0].source` if it is shared."""
        return f"{self.cameras.get(pipeline.camera or '', key)}.source"


class FaultyFileError(ConfigurationError):
    """A file with mistakes in it. The models and labels of its valid pipelines can still be checked."""

    def __init__(self, found: tuple[Problem, ...], more: int, rest: Document) -> None:
        super().__init__((*found, and_more(rest.file, more)) if more else found)
        self.found = found
        self.more = more
        """Number of problems that are not listed."""
        self.rest = rest
        """Holds the valid pipelines only; its `configuration` is empty."""


def and_more(file: str, count: int) -> Problem:
    """Return a problem that stands for those that are not listed."""
    return Problem(file, 0, 0, "", f"and {counted(count, 'more problem')}")


def load(path: Path) -> Document:
    """Read and validate the file at `path`.

    Raises:
        ConfigurationError: With every problem in the file's order; FaultyFileError if the file is a mapping.
    """
    file = str(path)
    try:
        small = read_small_file(path, MAX_BYTES)
    except UnreadableError as error:
        remedy = ""
        if isinstance(error.__cause__, FileNotFoundError):
            remedy = "; give its path with --config, or print a first one with `edge-classifierd doctor --suggest`"
        raise ConfigurationError((Problem(file, 0, 0, "", f"{error}{remedy}"),)) from error
    folder = path.absolute().parent
    values = _read_values(decode(small.content, file), file, folder, read_secrets=True)
    configuration, errors = _validate(values, folder)
    problems, more = _problems(file, values, errors)
    warnings = _warnings(file, values) if small.world_readable else ()
    if problems or configuration is None:
        raise FaultyFileError(problems, more, _valid_pipelines(file, values, folder, warnings))
    pipelines = tuple((f"pipelines[{n}]", one) for n, one in enumerate(configuration.pipelines))
    cameras = {camera.name: f"cameras[{n}]" for n, camera in enumerate(configuration.cameras)}
    return Document(file, configuration, warnings, pipelines, cameras, _values=values)


def check_draft(text: str, file: str, folder: Path) -> FaultyFileError:
    """Return the problems of a text that nobody has saved, as an error that is not raised; `found` may be empty.

    Neither a file nor a credential nor a variable is read: its author may be somebody else than the administrator.

    Args:
        text: the draft.
        file: its name in the problems.
        folder: relative paths in it are relative to this folder.

    Raises:
        ConfigurationError: it is not YAML, or not a mapping.
    """
    values = _read_values(decode(text.encode(errors="replace"), file), file, folder, read_secrets=False)
    _, errors = _validate(values, folder)
    problems, more = _problems(file, values, errors)
    return FaultyFileError(problems, more, _valid_pipelines(file, values, folder, ()))


def _read_values(text: str, file: str, folder: Path, *, read_secrets: bool) -> Values:
    root = compose(text, file)
    if root is None:
        raise ConfigurationError((Problem(file, 0, 0, "", "is empty; at least `pipelines` is needed"),))
    values = read_values(root, folder, read_secrets=read_secrets)
    if not isinstance(values.data, dict):
        message = "must be a mapping of keys: " + ", ".join(Configuration.model_fields)
        raise ConfigurationError((Problem(file, root.place.line, root.place.column, "", message),))
    return values


def _valid_pipelines(file: str, values: Values, folder: Path, warnings: tuple[Problem, ...]) -> Document:
    """Return a Document of those pipelines that are valid by themselves in a file with mistakes."""
    context = {FOLDER: folder, STATE: state_directory()}
    cameras = _valid_items(values, "cameras", CameraSection, context)
    pipelines = []
    for key, section in _valid_items(values, "pipelines", PipelineSection, context):
        pipeline = with_source(section, (camera for _, camera in cameras))
        if pipeline.source is not FROM_OTHERS:
            pipelines.append((key, pipeline))
    nothing = Configuration.model_construct(pipelines=())
    keys = {camera.name: key for key, camera in cameras}
    return Document(file, nothing, warnings, tuple(pipelines), keys, values)


def _valid_items(values: Values, key: str, section: type[T], context: object) -> list[tuple[str, T]]:
    """Return those items of a list that are valid by themselves, each with its key."""
    items = []
    listed = values.data.get(key) if isinstance(values.data, dict) else None
    for position, data in enumerate(listed[:_MOST_ITEMS] if isinstance(listed, list) else ()):
        with suppress(ValidationError):
            items.append((f"{key}[{position}]", section.model_validate(data, context=context)))
    return items


def _validate(values: Values, folder: Path) -> tuple[Configuration | None, list[ErrorDetails]]:
    """Validate the values. Text of a tag (`!env`) is read as unquoted YAML where a key does not take text."""
    context = {FOLDER: folder, STATE: state_directory()}
    for last in (False, True):
        try:
            return Configuration.model_validate(values.data, context=context), []
        except ValidationError as error:
            errors = error.errors(include_url=False)
        retry = False
        for found in errors if values.sources and not last else ():
            if found["type"] in _PLAIN_ERRORS:
                retry |= _reread(locate_error(Configuration, found, values).path, values)
        if not retry:
            break
    return None, errors


def _reread(path: KeyPath, values: Values) -> bool:
    if path not in values.sources or path in values.unread:
        return False
    parent = locate(Configuration, path[:-1], values.data).value
    assert isinstance(parent, dict | list)
    text = parent[path[-1]]  # type: ignore[index]
    meaning = plain_value(text)
    parent[path[-1]] = meaning  # type: ignore[index]
    return not isinstance(meaning, str)


def _problems(file: str, values: Values, errors: list[ErrorDetails]) -> tuple[tuple[Problem, ...], int]:
    """Return the first problems in the file's order and the number of the others."""
    found: list[tuple[Place, KeyPath, str | ErrorDetails]] = [(f.place, f.path, f.message) for f in values.faults]
    for error in errors:
        location = locate_error(Configuration, error, values)
        unread = any(location.path[:end] in values.unread for end in range(len(location.path) + 1))
        if unread or is_follow_up(error, location):
            continue
        at = values.key_places if error["type"] == "extra_forbidden" else values.places
        found.append((at.get(location.path) or _place_of(location.path, values), location.path, error))
    found += [(_place_of(path, values), path, message) for path, message in cross_check(values.data)]
    found.sort(key=lambda entry: entry[0])
    listed = tuple(_problem(file, values, *entry) for entry in found[:MAX_PROBLEMS])
    return listed, len(found) - len(listed)


def _problem(file: str, values: Values, place: Place, path: KeyPath, what: str | ErrorDetails) -> Problem:
    if not isinstance(what, str):
        what = sentence(Configuration, what, locate_error(Configuration, what, values), values)
    return Problem(file, place.line, place.column, format_key(path), what)


def _place_of(path: KeyPath, values: Values) -> Place:
    for end in range(len(path), -1, -1):
        if place := values.places.get(path[:end]):
            return place
    return Place(0, 0)


def _warnings(file: str, values: Values) -> tuple[Problem, ...]:
    """Return a warning for each password in a file that every account of the machine may read."""
    message = "every account of this machine can read this password; `chmod o-r` the file, or use `!credential`"
    problems = []
    for path, place in values.places.items():
        location = locate(Configuration, path, values.data)
        literal = isinstance(location.value, str) and path not in values.sources
        if literal and (holds_secret(location) or mask_userinfo(str(location.value)) != location.value):
            problems.append(Problem(file, place.line, place.column, format_key(path), message))
    return tuple(problems)
