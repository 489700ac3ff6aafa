"""What has become of a taught model: its versions, the one in use, and corrections since then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.teaching.records import TaughtModel
    from edge_classifierd.teaching.store import TeachingStore
    from edge_classifierd.teaching.training.result import TrainingResult
    from edge_classifierd.teaching.training.versions import Versions

# A guess for the first training, on two cores of a PC; later ones are estimated from the last.
_FIRST_S: Final = 5.0
_PICTURE_S: Final = 0.12


@dataclass(frozen=True, slots=True)
class TaughtProgress:
    """The versions of a model at one moment."""

    versions: tuple[int, ...]
    """The newest first."""
    in_use: TaughtInUse | None
    corrections: int
    """Number of pictures that were put right since the newest version was made."""
    seconds_estimate: int
    """How long a training will take, roughly."""


def taught_progress(store: TeachingStore, versions: Versions, model: TaughtModel) -> TaughtProgress:
    """Read what has become of a model. Raises EdgeClassifierError."""
    results = versions.results(model.name)
    newest = results[0] if results else None
    return TaughtProgress(
        versions=tuple(one.version for one in results),
        in_use=versions.in_use(model.name),
        corrections=0 if newest is None else store.corrections_since(model.name, datetime.fromisoformat(newest.made)),
        seconds_estimate=_seconds(model, newest),
    )


def _seconds(model: TaughtModel, last: TrainingResult | None) -> int:
    pictures = sum(one.pictures for one in model.classes)
    if last is None or not last.learnt_from:
        return round(_FIRST_S + _PICTURE_S * pictures)
    learnt = last.learnt_from + (last.held_out.pictures if last.held_out is not None else 0)
    return max(1, round(last.seconds * pictures / learnt))
