"""Converts the label patterns of a pipeline to class indices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edge_classifierd.decision.types import WatchRule
from edge_classifierd.model.labels import match, nearest
from edge_classifierd.pipeline.planning.plan import ANY_RULE, Plan
from edge_classifierd.pipeline.planning.taught_models import own_watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from edge_classifierd.config.loading.load import Document
    from edge_classifierd.config.sections.pipeline import PipelineSection, WatchSection
    from edge_classifierd.decision.types import Combine
    from edge_classifierd.errors import Problem
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.labels import Labels
    from edge_classifierd.model.taught import TaughtInUse
    from edge_classifierd.pipeline.planning.plan import AnyPlan


@dataclass(frozen=True, slots=True)
class PlanMistake:
    """A problem of the configuration, and how its sentence ends."""

    problem: Problem
    remedy: Callable[[], str] = str
    """Returns the end of the sentence. It is slow, so it is called for listed mistakes only."""


class LabelSelection:
    """Converts the label patterns of one pipeline to class indices and collects the mistakes in them."""

    def __init__(
        self,
        document: Document,
        section: PipelineSection,
        bundle: ModelBundle,
        cpu_bundle: ModelBundle | None,
        key: str,
        *,
        taught: TaughtInUse | None = None,
    ) -> None:
        """`taught` is the version of the taught model that `bundle` is, if it is one."""
        self.mistakes: list[PlanMistake] = []
        self._document = document
        self._section = section
        self._bundle = bundle
        self._cpu_bundle = cpu_bundle
        self._key = key
        self._taught = taught
        self._allowed = self._allow_and_deny()

    def plan(self, again: Callable[[], AnyPlan]) -> Plan | None:
        """Return the plan, None when there are mistakes."""
        rules = [self._rule(number, watch) for number, watch in enumerate(self._section.watches)]
        if self.mistakes:
            return None
        found = tuple(rule for rule in rules if rule is not None)
        # The background class is never the top label, but a watch may use it ("the door is open").
        mask = _mask(self._allowed - {self._bundle.labels.background}, len(self._bundle.labels))
        if not found:
            found = (ANY_RULE,) if self._taught is None else own_watches(self._taught)
        return Plan(self._section, self._bundle, self._cpu_bundle, found, mask, again, taught=self._taught)

    def _allow_and_deny(self) -> set[int]:
        allow = self._matching(self._section.allow, "allow") or set(range(len(self._bundle.labels)))
        allowed = allow - self._matching(self._section.deny, "deny")
        if not allowed and not self.mistakes:
            self._add("deny", "leaves no label to report; deny fewer")
        return allowed

    def _rule(self, number: int, watch: WatchSection) -> WatchRule | None:
        place = f"watches[{number}].labels"
        matched = self._matching(watch.labels, place)
        indices = tuple(sorted(matched & self._allowed))
        if not indices:
            if matched:
                self._add(place, "`allow` and `deny` leave none of these labels")
            return None
        combine: Combine = "max" if self._bundle.output_kind == "multi_label" else "sum"
        return WatchRule(watch.name, indices, watch.threshold, watch.release, watch.confirm, watch.cooldown, combine)

    def _matching(self, patterns: Iterable[str | int], place: str) -> set[int]:
        labels = self._bundle.labels
        indices: set[int] = set()
        for number, pattern in enumerate(patterns):
            matched = match(labels, pattern)
            indices.update(matched)
            if not matched:
                known = f"the model's {len(labels):,} labels (indices 0 to {len(labels) - 1})"
                message = f"{pattern!r} matches none of {known}"
                self._add(f"{place}[{number}]", message, partial(_similar, labels, pattern))
        return indices

    def _add(self, place: str, message: str, remedy: Callable[[], str] = str) -> None:
        self.mistakes.append(PlanMistake(self._document.problem(f"{self._key}.{place}", message), remedy))


def _mask(reportable: set[int], classes: int) -> NDArray[np.bool_] | None:
    if len(reportable) == classes:
        return None
    mask = np.zeros(classes, np.bool_)
    mask[list(reportable)] = True
    return mask


def _similar(labels: Labels, pattern: str | int) -> str:
    near = nearest(labels, pattern)
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
