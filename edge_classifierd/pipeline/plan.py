"""The plan of one pipeline: its section of the configuration, resolved to a model, class indices and rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_classifierd.decision.types import WatchRule
from edge_classifierd.preprocess import Region, View

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.model.bundle import ModelBundle

ANY_WATCH: Final = "any"
"""The watch of a pipeline that names none: whatever is on top."""
ANY_RULE: Final = WatchRule(ANY_WATCH, None, 0.6, 0.4)


@dataclass(frozen=True, slots=True)
class Plan:
    """One pipeline, checked and resolved: what to run and what to look for."""

    section: PipelineSection
    bundle: ModelBundle
    cpu_bundle: ModelBundle | None
    """The CPU version of a model compiled for the Edge TPU."""
    rules: tuple[WatchRule, ...]
    allowed: NDArray[np.bool_] | None
    """Shape (classes,): which may be reported; None when all may."""
    again: Callable[[], AnyPlan] | None = field(default=None, repr=False, compare=False)
    """Reads the model's files again and makes a new plan of the same section."""

    @property
    def region(self) -> Region:
        """The part of the upright picture to look at."""
        region = self.section.region
        return Region(region.x, region.y, region.width, region.height)

    @property
    def view(self) -> View:
        """What is left to be done to the source's frames before they are seen as wanted."""
        source = self.section.source
        region = Region() if source.cuts_itself else self.region
        return View(region=region) if source.turns_itself else View(source.rotation, source.mirror, region)


@dataclass(frozen=True, slots=True)
class BlockedPlan:
    """A pipeline whose section is right but whose model files cannot be used now."""

    section: PipelineSection
    reason: str
    """Why it cannot start, one sentence."""
    again: Callable[[], AnyPlan] = field(repr=False, compare=False)
    """Reads the model's files again; they may be usable by then."""

    @property
    def rules(self) -> tuple[WatchRule, ...]:
        """The configured watches, without the classes, which only the model knows."""
        watches = self.section.watches
        return tuple(WatchRule(watch.name, None, watch.threshold, watch.release) for watch in watches) or (ANY_RULE,)


AnyPlan = Plan | BlockedPlan
