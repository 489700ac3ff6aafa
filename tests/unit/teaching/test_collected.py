"""Pictures that `collect` has kept are taken over once, with their time and guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from moving_pictures import encoded, picture

from edge_classifierd.clock import SystemClock, timestamp
from edge_classifierd.pipeline.collector import with_note
from edge_classifierd.teaching.collected import collected_pictures, take_over
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path

TIME = "2026-11-20T08:00:00.000Z"
NOTE = {"time": TIME, "top": [{"index": 1, "label": "robin", "confidence": 0.4}]}


@pytest.fixture
def store(tmp_path: Path) -> TeachingStore:
    made = TeachingStore(tmp_path, SystemClock())
    made.create("birds", "garden")
    return made


def collect(folder: Path, seed: int, note: Any = None, label: str = "robin") -> Path:
    """Keep a picture as the collector does."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    file = folder / label / f"2026-11-20_08-00-00-{seed:06}.jpg"
    file.write_bytes(with_note(encoded(picture(seed, noise=True)), NOTE if note is None else note))
    return file


def test_pictures_are_taken_with_time_and_guess_and_leave_their_folder(tmp_path: Path, store: TeachingStore) -> None:
    folder = tmp_path / "collected/garden"
    files = [collect(folder, seed) for seed in range(3)]
    assert take_over(store, "birds", "garden", folder, 2) == (2, 1)
    assert take_over(store, "birds", "garden", folder, 2) == (1, 0)
    assert not any(file.exists() for file in files)
    listed = store.pictures("birds", "to_sort")
    assert [(one.source, timestamp(one.captured)) for one in listed] == [("collected", TIME)] * 3
    assert {(one.guess.label, one.guess.confidence) for one in listed if one.guess} == {("robin", 0.4)}


@pytest.mark.parametrize(
    "note", [{}, {"top": []}, {"top": [5]}, {"top": [{"label": "x", "confidence": "y"}]}, {"time": 5}, {"time": "x"}]
)
def test_a_note_of_another_form_costs_time_and_guess_only(tmp_path: Path, store: TeachingStore, note: Any) -> None:
    folder = tmp_path / "collected/garden"
    collect(folder, 1, note)
    assert take_over(store, "birds", "garden", folder, 50) == (1, 0)
    (listed,) = store.pictures("birds", "to_sort")
    assert listed.guess is None


def test_what_is_no_picture_stays_where_it_is(tmp_path: Path, store: TeachingStore) -> None:
    folder = tmp_path / "collected/garden"
    (folder / "robin").mkdir(parents=True)
    damaged = folder / "robin/damaged.jpg"
    damaged.write_bytes(b"no picture")
    collect(folder, 1)
    assert take_over(store, "birds", "garden", folder, 50) == (1, 1)
    assert collected_pictures(folder) == [damaged]


def test_without_a_folder_there_is_nothing_to_take(tmp_path: Path, store: TeachingStore) -> None:
    assert take_over(store, "birds", "garden", tmp_path / "nothing", 50) == (0, 0)
