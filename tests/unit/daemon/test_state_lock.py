"""One daemon a state directory; a directory that cannot be written is none of the lock's business."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.daemon.process import lock_state
from edge_classifierd.errors import EdgeClassifierError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_daemon_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = lock_state(tmp_path / "new" / "state")
    assert first is not None
    with pytest.raises(EdgeClassifierError, match=r"another process uses .* EDGE_CLASSIFIERD_STATE"):
        lock_state(tmp_path / "new" / "state")
    os.close(first)
    second = lock_state(tmp_path / "new" / "state")
    assert second is not None
    os.close(second)


def test_no_directory_is_no_lock_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    assert lock_state(tmp_path / "state") is None


def test_a_lock_left_in_a_directory_that_cannot_be_written_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(0o400)
    descriptor = lock_state(tmp_path)
    assert descriptor is not None
    os.close(descriptor)
