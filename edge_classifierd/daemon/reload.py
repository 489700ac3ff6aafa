"""What a changed configuration means for one pipeline: nothing, other watches, or a new start."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from edge_classifierd.pipeline.plan import Plan

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
    if _files(running) != _files(wanted):
        return Change.RESTART
    before, after = running.section.model_dump(), wanted.section.model_dump()
    changed = {key for key in after if before[key] != after[key]}
    if changed - _WITHOUT_RESTART:
        return Change.RESTART
    return Change.WATCHES if changed else Change.NONE


def _files(plan: Plan) -> Hashable:
    """What stands in the files that the section only names: they may have been replaced in their place."""
    return plan.bundle.sha256, plan.bundle.labels, plan.cpu_bundle and plan.cpu_bundle.sha256
