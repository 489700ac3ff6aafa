"""Pipelines with a taught model: its bundle, its watches, and sections changed by a commanded model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from edge_classifierd.config.sections.model_input import InputSection
from edge_classifierd.decision.types import WatchRule
from edge_classifierd.errors import ModelError
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.labels import match
from edge_classifierd.pipeline.planning.plan import BlockedPlan

if TYPE_CHECKING:
    from edge_classifierd.config.sections.pipeline import PipelineSection
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.labels import Labels
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.pipeline.planning.plan import AnyPlan

_DEFAULT_THRESHOLD: Final = 0.6
"""As of a configured watch."""


def taught_bundle(in_use: TaughtInUse) -> ModelBundle:
    """Return the version in use, with its title as the name and with the present names of its classes.

    Raises:
        ModelError: Its file is missing, damaged, or another one than was trained.
    """
    bundle = load_bundle(in_use.file)
    if bundle.sha256 != in_use.sha256 or len(bundle.labels) != len(in_use.labels):
        raise ModelError(f"{in_use.file}: is not the file that was trained; put another version in use")
    shown = tuple(label.name for label in in_use.labels)
    return dataclasses.replace(bundle, name=in_use.title, labels=dataclasses.replace(bundle.labels, display=shown))


def own_watches(in_use: TaughtInUse) -> tuple[WatchRule, ...]:
    """Return one rule for each class but `unknown`, with the threshold that the training recommends."""
    rules = []
    for index, label in enumerate(in_use.labels):
        if not label.unknown:
            threshold = label.threshold or _DEFAULT_THRESHOLD
            rules.append(WatchRule(label.slug, (index,), threshold, float(f"{threshold * 2 / 3:.6g}")))
    return tuple(rules)


def own_watch_titles(plan: AnyPlan) -> dict[str, str]:
    """Return what people see of the watches that a taught model brings with it, by their names."""
    if isinstance(plan, BlockedPlan) or plan.taught is None or plan.section.watches:
        return {}
    return {label.slug: label.name for label in plan.taught.labels}


def _with_commanded_model(section: PipelineSection, taught: str) -> PipelineSection:
    """Return the section of a pipeline that is commanded to use a taught model."""
    model = section.model.model_copy(
        update={
            "taught": taught, "path": None, "cpu_model": None, "url": None, "sha256": None, "bundled": "fast",
            "labels": None, "input": InputSection(), "output": None, "locale": None,
        }
    )  # fmt: skip
    return section.model_copy(update={"model": model})


def effective_section(section: PipelineSection, commanded: str | None) -> PipelineSection:
    """Return the section with the model that is commanded, if any, and a taught model's pictures fitted as in training.

    Trainings crop (`TrainingPlan.fit`). A model that was trained on cropped pictures is worse with others.
    """
    if commanded is not None:
        section = _with_commanded_model(section, commanded)
    if section.model.taught is None or (section.fit, section.crop_fraction) == ("crop", 1.0):
        return section
    return section.model_copy(update={"fit": "crop", "crop_fraction": 1.0})


def without_foreign_labels(section: PipelineSection, labels: Labels) -> PipelineSection:
    """Return the section without the watches and patterns that are meant for the labels of another model.

    A watch stays if the model has all its labels.
    """
    watches = tuple(watch for watch in section.watches if all(match(labels, one) for one in watch.labels))
    allow, deny = (tuple(one for one in given if match(labels, one)) for given in (section.allow, section.deny))
    return section.model_copy(update={"watches": watches, "allow": allow, "deny": deny})
