"""What a changed configuration means for one pipeline: nothing, other watches, or a new start."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.daemon.preflight import Plan

_WITHOUT_RESTART: Final = frozenset({"watches", "allow", "deny", "top_k", "ambiguity_margin", "snapshot", "collect"})
"""Keys of a pipeline that change between two frames, without touching camera or model."""


class Change(Enum):
    """How a pipeline's new plan differs from the one that runs."""

    NONE = auto()
    WATCHES = auto()
    RESTART = auto()


def compare(running: Plan | None, wanted: Plan) -> Change:
    """What is to be done; a pipeline that does not run yet is started."""
    if running is None:
        return Change.RESTART
    if (running.bundle.sha256, running.bundle.labels) != (wanted.bundle.sha256, wanted.bundle.labels):
        return Change.RESTART
    before, after = running.section.model_dump(), wanted.section.model_dump()
    changed = {key for key in after if before[key] != after[key]}
    if changed - _WITHOUT_RESTART or type(running.section.source) is not type(wanted.section.source):
        return Change.RESTART
    return Change.WATCHES if changed else Change.NONE
