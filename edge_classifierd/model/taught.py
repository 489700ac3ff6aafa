"""Which version of a taught model is in use. Only reads; `teaching.training.versions` writes what is read here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "taught"
"""The folder of all taught models in the state directory."""
IN_USE: Final = "in-use.json"
LAST_GOOD: Final = "in-use.last.json"
"""The previous content of `in-use.json`, used when that is damaged."""
MODEL_FILE: Final = "model.tflite"
TAUGHT_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TaughtLabel:
    """A class of a taught model, in the order of the labels of its file."""

    slug: str
    """The name of its watch; it never changes."""
    name: str
    """What people see; it may have changed since the training."""
    unknown: bool
    threshold: float | None
    """Recommended by the training; None for `unknown` and where there were too few pictures."""


@dataclass(frozen=True, slots=True)
class TaughtInUse:
    """The version of a taught model that its pipelines use."""

    name: str
    version: int
    file: Path
    sha256: str
    """Of the file."""
    labels: tuple[TaughtLabel, ...]
    previous: int | None
    """The version that was in use before, for a roll back."""

    @property
    def title(self) -> str:
        """The model's name with its version, as health and events show it."""
        return f"{self.name}-{self.version}"


def taught_folder(state: Path, name: str) -> Path:
    """Return the folder of a taught model. Raises ModelError for a text that is no such name."""
    if not TAUGHT_NAME.fullmatch(name):
        raise ModelError(f"{name:.60}: is no name of a taught model; such a name has 1 to 32 of a-z, 0-9 and -")
    return state / FOLDER / name


def taught_in_use(state: Path, name: str) -> TaughtInUse:
    """Return which version of a taught model is in use.

    Args:
        state: The state directory.
        name: The name of the taught model.

    Raises:
        ModelError: There is no such model, none of its versions is in use, or the file that says so is damaged.
    """
    folder = taught_folder(state, name)
    damaged = ""
    for file in (folder / IN_USE, folder / LAST_GOOD):
        try:
            with file.open("rb") as opened:
                return _parse(folder, name, json.loads(opened.read(_MOST_BYTES)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ModelError(f"taught model {name}: {file}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            damaged = damaged or f"taught model {name}: {file}: is damaged ({error}); put a version in use again"
    if damaged:
        raise ModelError(damaged)
    if not folder.is_dir():
        raise ModelError(f"taught model {name}: there is no such model; teach it on the page, or see `teach list`")
    raise ModelError(f"taught model {name}: no version is in use yet; train it, then use the version")


def _parse(folder: Path, name: str, data: dict[str, Any]) -> TaughtInUse:
    version, previous = int(data["version"]), data["previous"]
    labels = tuple(
        TaughtLabel(
            str(one["slug"]),
            str(one["name"]),
            bool(one["unknown"]),
            None if one["threshold"] is None else float(one["threshold"]),
        )
        for one in data["labels"]
    )
    file = folder / "versions" / str(version) / MODEL_FILE
    return TaughtInUse(name, version, file, str(data["sha256"]), labels, None if previous is None else int(previous))
