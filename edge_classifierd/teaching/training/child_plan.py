"""What the child process of a training is told, and what it answers, as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge_classifierd.model.taught import TaughtInUse, TaughtLabel
from edge_classifierd.teaching.records import TrainingClass, TrainingPicture

if TYPE_CHECKING:
    from collections.abc import Mapping

ExtractorName = Literal["fast", "accurate"]
"""The bundled model from which is learnt."""


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """One training of a taught model."""

    model: str
    version: int
    made: str
    """When the training began, ISO 8601 in UTC."""
    extractor: ExtractorName
    folder: Path
    """The temporary folder, which becomes the version."""
    classes: tuple[TrainingClass, ...]
    estimate: bool
    in_use: TaughtInUse | None
    """The version to compare with."""


@dataclass(frozen=True, slots=True)
class ChildProgress:
    """How far the child is."""

    stage: str
    done: int
    of: int


@dataclass(frozen=True, slots=True)
class ChildFailure:
    """Why the child ended without a version, one sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class ChildFinished:
    """The version is complete in its temporary folder."""


ChildAnswer = ChildProgress | ChildFailure | ChildFinished


def encode_plan(plan: ChildPlan) -> bytes:
    """Return the plan as one line of JSON."""
    return json.dumps(dataclasses.asdict(plan), default=str).encode() + b"\n"


def decode_plan(content: bytes) -> ChildPlan:
    """Return the plan that `encode_plan` wrote."""
    data: dict[str, Any] = json.loads(content)
    in_use = data["in_use"]
    return ChildPlan(
        model=data["model"],
        version=data["version"],
        made=data["made"],
        extractor=data["extractor"],
        folder=Path(data["folder"]),
        classes=tuple(_class(one) for one in data["classes"]),
        estimate=data["estimate"],
        in_use=None if in_use is None else _in_use(in_use),
    )


def encode_answer(answer: ChildAnswer) -> str:
    """Return an answer as one line of JSON, without the line's end."""
    kind = {ChildProgress: "progress", ChildFailure: "failure", ChildFinished: "finished"}[type(answer)]
    return json.dumps({kind: dataclasses.asdict(answer)})


def decode_answer(line: bytes) -> ChildAnswer | None:
    """Return the answer in a line; None for a line that is none, such as a message of a library."""
    try:
        data = json.loads(line)
        if "progress" in data:
            one = data["progress"]
            return ChildProgress(str(one["stage"]), int(one["done"]), int(one["of"]))
        if "failure" in data:
            return ChildFailure(str(data["failure"]["sentence"]))
        return ChildFinished() if "finished" in data else None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _class(data: Mapping[str, Any]) -> TrainingClass:
    return TrainingClass(
        id=data["id"],
        slug=data["slug"],
        name=data["name"],
        unknown=data["unknown"],
        learn=tuple(_picture(one) for one in data["learn"]),
        held_out=tuple(_picture(one) for one in data["held_out"]),
        estimate=data["estimate"],
    )


def _picture(data: Mapping[str, Any]) -> TrainingPicture:
    return TrainingPicture(data["id"], Path(data["path"]), data["recording"])


def _in_use(data: Mapping[str, Any]) -> TaughtInUse:
    labels = tuple(TaughtLabel(**one) for one in data["labels"])
    return TaughtInUse(data["name"], data["version"], Path(data["file"]), data["sha256"], labels, data["previous"])
