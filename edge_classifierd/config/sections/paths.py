"""Path types. User files are relative to the configuration file's folder, written files to the state directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_classifierd.config.descriptions import Expected
from edge_classifierd.errors import UsageError

FOLDER = "folder"
"""Key of the validation context: the configuration file's folder, an absolute Path."""
STATE = "state"
"""Key of the validation context: the state directory, an absolute Path."""


def state_directory() -> Path:
    """Return `$EDGE_CLASSIFIERD_STATE`, else the first of `$STATE_DIRECTORY`, else /var/lib/edge-classifierd.

    Raises UsageError for a relative path when the working directory has been removed.
    """
    own = os.environ.get("EDGE_CLASSIFIERD_STATE")
    chosen = own or os.environ.get("STATE_DIRECTORY", "").split(":")[0] or "/var/lib/edge-classifierd"
    try:
        return Path(chosen).absolute()
    except FileNotFoundError as error:
        variable = "EDGE_CLASSIFIERD_STATE" if own else "STATE_DIRECTORY"
        raise UsageError(
            f"{variable}={chosen}: is relative to the working directory, which was removed; give an absolute path"
        ) from error


def resolve(text: str | Path, folder: Path | None) -> Path:
    """Expand `~` and resolve a relative path against `folder`, if given; raises PydanticCustomError."""
    if not str(text) or "\0" in str(text):
        raise PydanticCustomError("expected", "must be a path")
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # no such user, or a user without a home
        raise PydanticCustomError(
            "rule", "begins with ~, but that user has no home directory; write an absolute path"
        ) from None
    return path if folder is None else folder / path


def _resolved(context_key: str) -> BeforeValidator:
    def validate(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str | Path):
            raise PydanticCustomError("expected", "must be a path")
        return resolve(value, (info.context or {}).get(context_key))

    return BeforeValidator(validate)


_SCHEMA = WithJsonSchema({"type": "string", "minLength": 1})
_WORDS = Expected("a path")

UserPath = Annotated[Path, _resolved(FOLDER), _SCHEMA, _WORDS]
"""A path of the user, relative to the configuration file's folder."""
StatePath = Annotated[Path, _resolved(STATE), _SCHEMA, _WORDS]
"""A path that the daemon writes, relative to the state directory."""
