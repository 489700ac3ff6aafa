"""The result of a training as it is kept beside the version: what was measured, and the sentences that describe it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class VersionClass:
    """A class of a version, in the order of the model's labels."""

    id: str
    """The ULID of the class; empty for `unknown` learnt from built-in pictures."""
    slug: str
    """The name of its watch."""
    name: str
    """The model's label: the name at the time of the training."""
    unknown: bool


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The held-out pictures of one class."""

    id: str
    slug: str
    name: str
    pictures: int
    right: int


@dataclass(frozen=True, slots=True)
class WrongPicture:
    """A picture whose best class is another one than its own. `truth` and `predicted` are slugs."""

    picture: str
    """The ULID of the picture."""
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True)
class HeldOutResult:
    """What was measured on pictures that were never learnt from."""

    pictures: int
    right: int
    balanced: float
    """The mean of the classes' shares, 0 to 1; the `balanced_accuracy` of `eval`."""
    per_class: tuple[ClassResult, ...]
    mistakes: tuple[WrongPicture, ...]
    """The most confident ones first, at most 24."""
    suspicious: tuple[WrongPicture, ...] = ()
    """Pictures that were learnt from and, when left out in turn, were confidently taken for another class."""


@dataclass(frozen=True, slots=True)
class UnknownResult:
    """Held-out pictures of `unknown`, and how many of them reached the threshold of another class."""

    pictures: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """The version in use before, measured on the same held-out pictures as the new one."""

    version: int
    held_out: HeldOutResult
    unknown: UnknownResult | None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """One version: how it was made, and how good it is."""

    version: int
    made: str
    """When, ISO 8601 in UTC."""
    sha256: str
    """Of `model.tflite`."""
    bytes: int
    seconds: float
    extractor: str
    """`fast` or `accurate`."""
    learnt_from: int
    """Number of pictures."""
    estimate: bool
    """Whether some class has so few held-out pictures that the result is an estimate."""
    classes: tuple[VersionClass, ...]
    held_out: HeldOutResult | None
    """None when no picture was held out."""
    unknown: UnknownResult | None
    """None when no picture of `unknown` was held out."""
    against: VersionComparison | None
    thresholds: Mapping[str, float]
    """Recommended threshold by slug."""
    sentences: tuple[str, ...] = ()
    """The result in words, the most important first."""
    worse: bool = False
    """Whether it is worse than the version in use on the same pictures."""


def encode_result(result: TrainingResult) -> bytes:
    """Return the content of `result.json`."""
    return json.dumps(dataclasses.asdict(result), ensure_ascii=False, indent=1).encode()


def decode_result(content: bytes) -> TrainingResult:
    """Return the result in a `result.json`. Raises ValueError, TypeError or LookupError for a damaged one."""
    data: dict[str, Any] = json.loads(content)
    against = data["against"]
    return TrainingResult(
        version=int(data["version"]),
        made=str(data["made"]),
        sha256=str(data["sha256"]),
        bytes=int(data["bytes"]),
        seconds=float(data["seconds"]),
        extractor=str(data["extractor"]),
        learnt_from=int(data["learnt_from"]),
        estimate=bool(data["estimate"]),
        classes=tuple(VersionClass(**one) for one in data["classes"]),
        held_out=_held_out(data["held_out"]),
        unknown=_unknown(data["unknown"]),
        against=None
        if against is None
        else VersionComparison(
            int(against["version"]), _required(_held_out(against["held_out"])), _unknown(against["unknown"])
        ),
        thresholds={str(slug): float(value) for slug, value in data["thresholds"].items()},
        sentences=tuple(map(str, data["sentences"])),
        worse=bool(data["worse"]),
    )


def _held_out(data: dict[str, Any] | None) -> HeldOutResult | None:
    if data is None:
        return None
    return HeldOutResult(
        pictures=int(data["pictures"]),
        right=int(data["right"]),
        balanced=float(data["balanced"]),
        per_class=tuple(ClassResult(**one) for one in data["per_class"]),
        mistakes=tuple(WrongPicture(**one) for one in data["mistakes"]),
        suspicious=tuple(WrongPicture(**one) for one in data["suspicious"]),
    )


def _required(found: HeldOutResult | None) -> HeldOutResult:
    if found is None:
        raise ValueError("the comparison has no figures")
    return found


def _unknown(data: dict[str, Any] | None) -> UnknownResult | None:
    return None if data is None else UnknownResult(int(data["pictures"]), int(data["false_alarms"]))
