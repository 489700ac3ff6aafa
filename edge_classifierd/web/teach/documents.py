"""The documents of taught models, classes, pictures and recordings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from edge_classifierd.clock import timestamp
from edge_classifierd.teaching.training.result import encode_result

if TYPE_CHECKING:
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.teaching.recorder import RecordingState
    from edge_classifierd.teaching.records import TaughtClass, TaughtModel, TaughtPicture
    from edge_classifierd.teaching.training.result import TrainingResult
    from edge_classifierd.teaching.training.trainer import TrainingState
    from edge_classifierd.web.teach.progress import TaughtProgress


def model_document(
    model: TaughtModel, progress: TaughtProgress, used_by: list[str], training: TrainingState | None
) -> dict[str, Any]:
    """Return a taught model with its classes. `training` is the newest one, of any model."""
    in_use = progress.in_use
    if training is not None and training.model != model.name:
        training = None
    return {
        "name": model.name,
        "pipeline": model.pipeline,
        "made": timestamp(model.made),
        "classes": [class_document(one) for one in model.classes],
        "to_sort": model.to_sort,
        "to_sort_groups": model.to_sort_groups,
        "bin": model.bin,
        "bytes": model.bytes,
        "can_train": not model.missing,
        "missing": model.missing or None,
        "newest_step": model.newest_step,
        "versions": list(progress.versions),
        "in_use": None if in_use is None else in_use.version,
        "previous": None if in_use is None else in_use.previous,
        "used_by": used_by,
        "corrections": progress.corrections,
        "seconds_estimate": progress.seconds_estimate,
        "training": None if training is None else training_document(training),
    }


def class_document(one: TaughtClass) -> dict[str, Any]:
    """Return a class with the number of its pictures."""
    return {
        "id": one.id,
        "slug": one.slug,
        "name": one.name,
        "unknown": one.unknown,
        "pictures": one.pictures,
        "recordings": one.recordings,
        "enough": one.enough,
        "advice": one.advice,
    }


def picture_document(picture: TaughtPicture) -> dict[str, Any]:
    """Return a picture without its pixels."""
    guess = picture.guess
    return {
        "id": picture.id,
        "class": picture.class_id,
        "recording": picture.recording,
        "group": picture.group,
        "source": picture.source,
        "captured": timestamp(picture.captured),
        "guess": None if guess is None else {"class": guess.label, "confidence": round(guess.confidence, 4)},
    }


def recording_document(state: RecordingState) -> dict[str, Any]:
    """Return a recording at one moment."""
    return {
        "id": state.id,
        "model": state.model,
        "class": state.class_id,
        "pipeline": state.pipeline,
        "kept": state.kept,
        "similar": state.similar,
        "newest": state.newest,
        "step": state.step,
        "ends_in_s": round(state.ends_in_s, 1),
        "ended": state.ended,
    }


def training_document(state: TrainingState) -> dict[str, Any]:
    """Return a training at one moment."""
    return {
        "id": state.id,
        "model": state.model,
        "version": state.version,
        "stage": state.stage,
        "done": state.done,
        "of": state.of,
        "seconds_left": state.seconds_left,
        "waiting_for": state.waiting_for,
        "failure": state.failure,
    }


def version_document(result: TrainingResult, in_use: TaughtInUse | None) -> dict[str, Any]:
    """Return a version without its mistakes."""
    held_out = result.held_out
    return {
        "version": result.version,
        "made": result.made,
        "in_use": in_use is not None and in_use.version == result.version,
        "previous": in_use is not None and in_use.previous == result.version,
        "sha256": result.sha256,
        "bytes": result.bytes,
        "seconds": result.seconds,
        "extractor": result.extractor,
        "learnt_from": result.learnt_from,
        "estimate": result.estimate,
        "classes": [one.name for one in result.classes],
        "held_out": None if held_out is None else {"pictures": held_out.pictures, "right": held_out.right},
        "sentences": list(result.sentences),
        "worse": result.worse,
    }


def result_document(result: TrainingResult, in_use: TaughtInUse | None) -> dict[str, Any]:
    """Return a version with all that was measured."""
    return {**version_document(result, in_use), **json.loads(encode_result(result))}
