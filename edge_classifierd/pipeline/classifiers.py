"""The loaded classifiers. Pipelines with the same model (by its content) and settings share one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.shared import SharedClassifier
from edge_classifierd.pipeline.planning.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edge_classifierd.config.sections.edgetpu import EdgeTpuSection
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
    from edge_classifierd.pipeline.planning.plan import AnyPlan


class Classifiers:
    """Loads each classifier at its first use. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._loading = threading.RLock()
        self._loaded: dict[tuple[Path | None, str, str | None, str], SharedClassifier] = {}

    def get(self, plan: Plan) -> SharedClassifier:
        """Return the loaded classifier of a plan. Raises ModelError, MissingError, InferenceError."""
        with self._loading:
            return self._get(plan)

    def _get(self, plan: Plan) -> SharedClassifier:
        model = plan.section.model
        key = _key(plan)
        if key not in self._loaded:
            settings = edgetpu_settings(model.edgetpu) if plan.bundle.edgetpu_compiled else None
            classifier = make_classifier(
                plan.bundle,
                model.device,
                model.threads,
                instances=model.instances,
                cpu_bundle=plan.cpu_bundle,
                edgetpu=settings,
            )
            self._loaded[key] = SharedClassifier(classifier)
        return self._loaded[key]

    def keep_only(self, plans: Iterable[AnyPlan]) -> None:
        """Close the classifiers that none of `plans` uses, because an Edge TPU serves one classifier only."""
        with self._loading:
            for key in self._loaded.keys() - {_key(plan) for plan in plans if isinstance(plan, Plan)}:
                self._loaded.pop(key).close()

    def close(self) -> None:
        """Close all of them."""
        self.keep_only(())


def _key(plan: Plan) -> tuple[Path | None, str, str | None, str]:
    """Return a value that is equal for two plans that can use the same classifier.

    Labels do not matter to a classifier. Files with the same content share one on the CPU; the process of an Edge TPU
    reads its file again after a fault, so there the path counts too.
    """
    path = plan.bundle.path if plan.bundle.edgetpu_compiled else None
    cpu_model = None if plan.cpu_bundle is None else plan.cpu_bundle.sha256
    settings = plan.section.model.model_copy(
        update={"path": path, "taught": None, "url": None, "sha256": None, "labels": None, "locale": None}
    )
    # repr instead of JSON, because a file name may contain bytes that are not UTF-8.
    return (path, plan.bundle.sha256, cpu_model, repr(settings))


def edgetpu_settings(section: EdgeTpuSection) -> EdgeTpuSettings:
    """Convert the section `model.edgetpu` of the configuration."""
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings  # noqa: PLC0415 - loads the child process

    return EdgeTpuSettings(
        library=section.library,
        options=section.options,
        deadline_s=section.deadline,
        load_deadline_s=section.load_deadline,
        reset_on_hang=section.reset_on_hang,
        count=section.count,
    )
