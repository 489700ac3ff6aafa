"""The lock on the state directory, which one daemon has to itself: commands, counts, announcements, snapshots."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.state_file import lock_alone

if TYPE_CHECKING:
    from pathlib import Path


def lock_state(directory: Path) -> int | None:
    """Lock the directory, made when it is not there; the kernel lets go when the descriptor returned is closed.

    None where no file can be made: a broken disk keeps no daemon from its work, nor does one that knows no locks.
    Raises EdgeClassifierError when another process has it.
    """
    file = directory / "lock"
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:
        return None
    try:
        lock_alone(descriptor)
    except BlockingIOError as error:
        raise EdgeClassifierError(
            f"{file}: another process uses this state directory; stop it, or give each its own with"
            " EDGE_CLASSIFIERD_STATE (a systemd service: with StateDirectory=)"
        ) from error
    return descriptor
