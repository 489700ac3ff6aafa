"""Pictures that differ, a clock that tests set, and the adding of pictures to a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import av
import numpy as np
from moving_pictures import encoded

if TYPE_CHECKING:
    from edge_classifierd.teaching.store import TeachingStore


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.known = True

    def monotonic(self) -> float:
        return self.passed_s

    def utc(self) -> datetime:
        return datetime(2026, 11, 29, 8, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def synchronised(self) -> bool:
        return self.known


def frame(number: int, *, side: int = 64, width: int | None = None) -> av.VideoFrame:
    """Coarse noise: two frames of different numbers differ in about half of their hash's bits."""
    random = np.random.default_rng(number)
    cells = random.integers(0, 255, (16, 17, 3), np.uint8)
    rows = np.arange(side) * 16 // side
    columns = np.arange(width or side) * 17 // (width or side)
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(cells[rows][:, columns]), format="rgb24")


def photo(number: int) -> bytes:
    return encoded(frame(number))


def add(store: TeachingStore, class_id: str | None, *numbers: int, recording: str | None = None) -> list[str]:
    """Add pictures that all are kept, and return their identifiers."""
    found = [
        store.add_picture("birds", class_id=class_id, picture=photo(number), source="upload", recording=recording).id
        for number in numbers
    ]
    assert None not in found
    return [one for one in found if one is not None]
