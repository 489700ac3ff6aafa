"""The plan of one pipeline (its section with model, class indices and rules), and how two plans differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from edge_classifierd.decision.types import WatchRule
from edge_classifierd.preprocess import Preprocessor, Region, View

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    from numpy.typing import NDArray

    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.taught import TaughtInUse

ANY_WATCH: Final = "any"
"""Name of the only watch of a pipeline without configured watches; it reports the best label."""
ANY_RULE: Final = WatchRule(ANY_WATCH, None, 0.6, 0.4)
_WITHOUT_RESTART: Final = frozenset(
    {"watches", "allow", "deny", "top_k", "ambiguity_margin", "snapshot", "collect", "max_fps", "motion", "active"}
)
"""Keys of a pipeline that can change between two frames, without opening the camera or loading the model again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A validated pipeline: what to run and what to look for."""

    section: PipelineSection
    bundle: ModelBundle
    cpu_bundle: ModelBundle | None
    """The CPU version of a model compiled for the Edge TPU."""
    rules: tuple[WatchRule, ...]
    allowed: NDArray[np.bool_] | None
    """Shape (classes,): the classes that may be reported; None for all."""
    again: Callable[[], AnyPlan] | None = field(default=None, repr=False, compare=False)
    """Reads the model's files again and makes a new plan of the same section."""
    commanded_region: Region | None = field(default=None, compare=False)
    """Replaces the configured region."""
    taught: TaughtInUse | None = None
    """The version of the taught model that `bundle` is, if it is one."""

    @property
    def region(self) -> Region:
        """Return the part of the upright picture to classify."""
        return self.commanded_region or configured_region(self)

    @property
    def cpu_models(self) -> list[ModelBundle]:
        """The models that run on the CPU, in this process."""
        return [one for one in (self.bundle, self.cpu_bundle) if one is not None and not one.edgetpu_compiled]

    def with_region(self, commanded: Region | None) -> Plan:
        """Return the plan with another region; None: the configured one."""
        return replace(self, commanded_region=commanded)

    @property
    def view(self) -> View:
        """Return how to turn and crop a frame, without what the source does itself."""
        source = self.section.source
        region = Region() if source.cuts_itself else self.region
        return View(region=region) if source.turns_itself else View(source.rotation, source.mirror, region)

    def in_whole_frame(self, part: Region) -> Region:
        """Return a part of a delivered frame in fractions of the whole frame, of which a camera may deliver a part."""
        if not self.section.source.cuts_itself:
            return part
        cut = self.region
        x, y = cut.x + part.x * cut.width, cut.y + part.y * cut.height
        return Region(x, y, part.width * cut.width, part.height * cut.height)

    def preprocessor(self) -> Preprocessor:
        """Return a new preprocessor for the frames of the source; use one per thread."""
        section, bundle = self.section, self.bundle
        return Preprocessor(
            bundle.input, bundle.normalisation, fit=section.fit, crop_fraction=section.crop_fraction, view=self.view
        )


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
        """The configured watches, without the classes, which only the model defines; none of a taught model's own."""
        watches = self.section.watches
        if not watches and self.section.model.taught is not None:
            return ()
        return tuple(WatchRule(watch.name, None, watch.threshold, watch.release) for watch in watches) or (ANY_RULE,)


AnyPlan = Plan | BlockedPlan


def configured_region(plan: AnyPlan) -> Region:
    """Return the region of the pipeline's section."""
    region = plan.section.region
    return Region(region.x, region.y, region.width, region.height)


class Change(Enum):
    """How a new plan differs from the one that runs."""

    NONE = auto()
    WATCHES = auto()
    RESTART = auto()


def compare(running: Plan | None, wanted: Plan) -> Change:
    """Return what a reload has to do. RESTART when nothing runs yet."""
    if running is None or _files(running) != _files(wanted):
        return Change.RESTART
    # The values and not their dumps, which mask passwords in addresses.
    before, after = running.section, wanted.section
    changed = {key for key in type(after).model_fields if getattr(before, key) != getattr(after, key)}
    if changed - _WITHOUT_RESTART:
        return Change.RESTART
    return Change.WATCHES if changed or running.taught != wanted.taught else Change.NONE


def same_camera(running: Plan, wanted: Plan) -> bool:
    """Return whether the camera that is open for one plan delivers what another plan needs."""
    before, after = running.section, wanted.section
    source = before.source
    if (before.camera, source) != (after.camera, after.source):
        return False
    if source.cuts_itself and running.region != wanted.region:
        return False
    return not source.scales_itself or _needed_picture(running) == _needed_picture(wanted)


def _needed_picture(plan: Plan) -> Hashable:
    """Return what decides about the smallest picture that the model needs."""
    layout, section = plan.bundle.input.layout, plan.section
    return layout.height, layout.width, section.fit, section.crop_fraction, plan.view


def _files(plan: Plan) -> Hashable:
    """Return the contents of the files that the section names, because a file may have been replaced."""
    return plan.bundle.sha256, plan.bundle.labels, plan.cpu_bundle and plan.cpu_bundle.sha256
