"""Fixtures of the outbox tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from outbox_box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "state" / "outbox.sqlite3")
    yield made
    made.close()


@pytest.fixture
def blocked(box: Box) -> Box:
    """The directory cannot be made: a file stands in its place, which works for root too."""
    box.path.parent.write_text("in the way")
    return box
