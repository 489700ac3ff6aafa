"""Reads what a training learns from and is measured with, once the sides of all pictures are decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.teaching.records import UNKNOWN, TrainingClass, TrainingPicture, TrainingPictures

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.teaching.rows import ModelTransaction

_ENOUGH_HELD_OUT: Final = 10
"""Held-out pictures of whole recordings, below which the result for a class is an estimate."""


def read_training_pictures(within: ModelTransaction, folder: Path) -> TrainingPictures:
    """Return the pictures of each class that has any; `folder` holds their files."""
    rows = within.connection.execute(
        "SELECT pictures.class, pictures.id, recording, held_out, side = 'held' FROM pictures"
        " JOIN recordings ON recordings.id = recording"
        " WHERE pictures.model = ? AND binned_ms IS NULL AND pictures.class IS NOT NULL ORDER BY pictures.id",
        (within.model,),
    ).fetchall()
    classes = []
    for class_id, slug, label in within.connection.execute(
        "SELECT id, slug, name FROM classes WHERE model = ? AND removed_ms IS NULL ORDER BY id", (within.model,)
    ).fetchall():
        own = [row for row in rows if row[0] == class_id]
        sides: tuple[list[TrainingPicture], list[TrainingPicture]] = ([], [])
        for _, picture, recording, held_out, _whole in own:
            sides[held_out].append(TrainingPicture(picture, folder / f"{picture}.jpg", recording))
        if own:
            classes.append(
                TrainingClass(
                    id=class_id,
                    slug=slug,
                    name=label,
                    unknown=slug == UNKNOWN,
                    learn=tuple(sides[0]),
                    held_out=tuple(sides[1]),
                    estimate=sum(held_out and whole for *_, held_out, whole in own) < _ENOUGH_HELD_OUT,
                )
            )
    return TrainingPictures(within.name, tuple(classes))
