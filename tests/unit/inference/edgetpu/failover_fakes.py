"""What the tests of the failover, of its pool and of its device share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stand_in import pixel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier

DEADLINE_S = 0.6
RED = pixel(250, 3, 0)


def until(condition: Callable[[], Any], within_s: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


def journal(folder: Path) -> list[list[str]]:
    """(pid, device, performance) of each delegate that was made."""
    return [line.split() for line in (folder / "journal").read_text().splitlines()]


def child_of(classifier: FailoverClassifier) -> int:
    assert classifier._child is not None
    return classifier._child.pid
