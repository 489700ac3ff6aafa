"""Pictures of shapes as the store gives them to a training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from drawn_pictures import drawn, folders

from edge_classifierd.teaching.records import TrainingClass, TrainingPicture, TrainingPictures

if TYPE_CHECKING:
    from pathlib import Path

    from drawn_pictures import Draw

    from edge_classifierd.teaching.training.trainer import Trainer, TrainingState

MODEL = "shapes"
CLASSES = {"disc": "round thing", "stripes": "stripes", "cross": "unknown"}
"""The drawn shapes and the names of their classes."""


def pictures(state: Path, count: int = 12, draw: Draw = drawn) -> TrainingPictures:
    """Draw `count` pictures of each class in recordings of four; the second recording is held out."""
    root = folders(state / "taught" / MODEL / "pictures", count, draw=draw)
    classes = []
    for number, (shape, name) in enumerate(CLASSES.items()):
        every = [
            TrainingPicture(f"{shape}-{at}", root / shape / f"{at}.jpg", f"{shape}{at // 4}") for at in range(count)
        ]
        held_out = tuple(one for one in every if one.recording == f"{shape}1")
        learn = tuple(one for one in every if one not in held_out)
        slug = name.replace(" ", "-")
        classes.append(TrainingClass(f"class-{number}", slug, name, name == "unknown", learn, held_out, estimate=True))
    return TrainingPictures(MODEL, tuple(classes))


def wait(trainer: Trainer, timeout_s: float = 100.0) -> TrainingState:
    """Return the state of the training when it has ended."""
    deadline_s = time.monotonic() + timeout_s
    while (state := trainer.state()) is None or state.runs:
        assert time.monotonic() < deadline_s, state
        time.sleep(0.02)
    return state
