"""A store with a model in a fresh state directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from teaching_scene import SetClock

from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> TeachingStore:
    found = TeachingStore(tmp_path, clock)
    found.create("birds", "garden")
    return found


@pytest.fixture
def robin(store: TeachingStore) -> str:
    """The identifier of a class."""
    return store.add_class("birds", "robin").id
