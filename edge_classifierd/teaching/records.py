"""The records of teaching: models, classes, pictures, what a training learns from; and the expected failures."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge_classifierd.config.sections.base import slug
from edge_classifierd.errors import EdgeClassifierError, UsageError, shortened

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

PictureSource = Literal["camera", "upload", "collected", "event"]
"""Where a picture comes from: recorded on purpose, uploaded, kept by `collect`, or of an event."""

TO_SORT: Final = "to_sort"
"""The place of pictures without a class."""
BIN: Final = "bin"
"""The place of removed pictures."""
UNKNOWN: Final = "unknown"
"""Name and slug of the class for everything that is none of the other classes."""

MODEL_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
LONGEST_NAME: Final = 60
# A class's name is a folder of an export and a label of the model: no character that file systems refuse, that
# separates synonyms (`,`), or that selects several labels.
_NOT_IN_NAMES: Final = '/\\:*?"<>|[],'


class NotTaughtError(UsageError):
    """There is no such model, class, recording or picture."""


class NameTakenError(UsageError):
    """Another model or class has the name."""


class StepGoneError(UsageError):
    """The step cannot be undone any more."""


class StoreFullError(EdgeClassifierError):
    """A bound of the store is reached, or the disk is nearly full."""


class TeachingError(EdgeClassifierError):
    """The pictures or their index cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A class that a model proposed for a picture."""

    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class TaughtClass:
    """A class of a taught model, with the number of its pictures."""

    id: str
    """A ULID."""
    slug: str
    """Name of its watch, `[a-z0-9_-]{1,64}`; it never changes."""
    name: str
    """What people see; label of the model and folder of an export."""
    unknown: bool
    """Whether it stands for everything that is none of the other classes."""
    pictures: int
    recordings: int
    enough: bool
    advice: str
    """One sentence: what to do next."""


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """A model that is taught on this device. Pictures in the bin are counted in `bytes` and `bin` only."""

    name: str
    pipeline: str | None
    """The pipeline whose camera its pictures come from."""
    made: datetime
    classes: tuple[TaughtClass, ...]
    """In the order in which they were added."""
    to_sort: int
    to_sort_groups: int
    """Number of groups of look-alikes among them."""
    bin: int
    bytes: int
    missing: str
    """What a training still needs, one sentence; empty when it can begin."""
    newest_step: int | None
    """The newest step that can be undone."""


@dataclass(frozen=True, slots=True)
class TaughtPicture:
    """A picture of a model."""

    id: str
    """A ULID."""
    class_id: str | None
    """None: to sort. A picture in the bin keeps the class that it had."""
    binned: bool
    recording: str
    group: str
    """Look-alikes share it."""
    source: PictureSource
    captured: datetime
    guess: Guess | None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a picture that was offered."""

    kept: bool
    id: str | None = None
    """Of the picture, if it was kept."""
    like: str | None = None
    """The picture of the same class that it is too similar to, if it was not kept."""
    recording: str | None = None
    step: int | None = None
    """The step whose undoing takes it back, with its whole recording or upload; None for a collected picture."""


@dataclass(frozen=True, slots=True)
class TrainingPicture:
    """A picture to learn from or to measure with."""

    id: str
    path: Path
    recording: str


@dataclass(frozen=True, slots=True)
class TrainingClass:
    """The pictures of one class."""

    id: str
    slug: str
    name: str
    unknown: bool
    learn: tuple[TrainingPicture, ...]
    held_out: tuple[TrainingPicture, ...]
    estimate: bool
    """Whether a result for this class is an estimate only: too few held-out pictures, or of a recording learnt from."""


@dataclass(frozen=True, slots=True)
class TrainingPictures:
    """What a training learns from and is measured with. A held-out picture is never learnt from, in no version."""

    model: str
    classes: tuple[TrainingClass, ...]

    @property
    def estimate(self) -> bool:
        """Whether the result for some class is an estimate only."""
        return any(one.estimate for one in self.classes)


def checked_model_name(name: str) -> str:
    """Return the name of a model, which is part of a path. Raises UsageError."""
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(f"{shortened(name)}: a model's name has 1 to 32 of the characters a-z, 0-9 and -")
    return name


def checked_class_name(name: str) -> str:
    """Return the name of a class in its normal form. Raises UsageError."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise UsageError(f"{shortened(name)}: a class's name has 1 to {LONGEST_NAME} characters")
    if not name.isprintable() or any(one in _NOT_IN_NAMES for one in name) or name[0] == "." or name[-1] == ".":
        raise UsageError(
            f"{shortened(name)}: a class's name has none of the characters {' '.join(_NOT_IN_NAMES)} and no dot at its "
            "ends, because it becomes the name of a folder"
        )
    return name


def folded(name: str) -> str:
    """Return the form in which names of classes are compared: without case, `_` like a space."""
    return name.casefold().replace("_", " ")


def slug_for(name: str, taken: frozenset[str]) -> str:
    """Return a slug for a class that is not `taken`: `Blaumeise (♂)` becomes `blaumeise`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    wanted = slug(plain)[:60].strip("-") or "class"
    return next(
        one
        for number in range(1, len(taken) + 2)
        if (one := wanted if number == 1 else f"{wanted}-{number}") not in taken
    )
