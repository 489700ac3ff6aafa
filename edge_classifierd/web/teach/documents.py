"""The documents of taught models, classes, pictures and recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_classifierd.clock import timestamp

if TYPE_CHECKING:
    from edge_classifierd.teaching.recorder import RecordingState
    from edge_classifierd.teaching.records import TaughtClass, TaughtModel, TaughtPicture


def model_document(model: TaughtModel) -> dict[str, Any]:
    """Return a taught model with its classes."""
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
