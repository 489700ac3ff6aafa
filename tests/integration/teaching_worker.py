"""A process that uses a store at random until it is killed, and reports what it has been promised."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import av
import numpy as np

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import UsageError
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

NAMES = ("birds", "fowl")


def noise(number: int) -> av.VideoFrame:
    """Frames of different numbers differ in about half of their hash's bits."""
    cells = np.random.default_rng(number).integers(0, 255, (16, 17, 3), np.uint8)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(cells.repeat(8, 0).repeat(8, 1)), format="rgb24")


def work(state: Path, seed: int, reports: Connection) -> None:
    """Send `("added", id)` after a picture was kept, `("binned", ids)` before pictures go."""
    store = TeachingStore(state, SystemClock())
    dice = random.Random(seed)
    name = store.models()[0].name
    classes = [one.id for one in store.model(name).classes]
    frames = iter(range(seed * 10_000, (seed + 1) * 10_000))
    while True:
        chosen = dice.random()
        own = [one.id for where in classes for one in store.pictures(name, where)]
        if chosen < 0.6 or len(own) < 12:
            where = dice.choice(classes)
            picture = store.add_picture(name, class_id=where, picture=noise(next(frames)), source="upload").id
            reports.send(("added", [picture]))
        elif chosen < 0.7:
            gone = dice.sample(own, 4)
            reports.send(("binned", gone))
            store.move(name, gone, "bin")
        elif chosen < 0.75:
            store.empty_bin(name)
        elif chosen < 0.85:
            store.move(name, dice.sample(own, 4), dice.choice(classes))
        elif chosen < 0.9:
            name, old = next(one for one in NAMES if one != name), name
            store.rename(old, name)
        elif chosen < 0.95:
            try:
                store.training_set(name)
            except UsageError:
                continue
        elif chosen < 0.98:
            store.import_(state / "pictures.zip", "passing")
            store.delete("passing")
        else:
            store.create("passing")
            store.add_picture("passing", class_id=None, picture=noise(0), source="upload")
            store.delete("passing")
