"""The classifiers in use: one for each (model, device), shared behind a lock by the pipelines that name the same."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from edge_classifierd.inference.accelerated import Accelerated, Concurrent
from edge_classifierd.inference.base import TwoStep
from edge_classifierd.inference.factory import make_classifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edge_classifierd.config.sections.edgetpu import EdgeTpuSection
    from edge_classifierd.inference.base import Classifier, Inference
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
    from edge_classifierd.inference.edgetpu.devices import Warmth
    from edge_classifierd.pipeline.plan import Plan
    from edge_classifierd.preprocess import Tensor


class SharedClassifier:
    """A classifier that several threads may use: one at a time, a pool of Edge TPUs as many as it has."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._lock = threading.Lock()
        self.lanes = classifier.lanes if isinstance(classifier, Concurrent) else 1
        self._run = classifier.run if isinstance(classifier, TwoStep) else partial(_run_whole, classifier)
        self._accelerated = classifier if isinstance(classifier, Accelerated) else None

    @property
    def runtime(self) -> str:
        """Name and version of the runtime in use now."""
        return self._classifier.runtime

    @property
    def accelerator(self) -> str:
        """What computes now, such as `cpu` or `usb:0`."""
        return self._classifier.accelerator

    @property
    def troubles(self) -> dict[str, str | None]:
        """By flag, why it does not compute as configured: one sentence each, None while it does."""
        if self._accelerated is None:
            return {}
        return {"edgetpu": self._accelerated.degradation, "edgetpu_heat": self._accelerated.heat_warning}

    @property
    def warmth(self) -> tuple[tuple[str, Warmth], ...]:
        """Temperature and clock of the accelerators that tell them, by name."""
        return () if self._accelerated is None else self._accelerated.warmth

    def classify(self, tensor: Tensor) -> Inference:
        """Wait for the classifier to be free, then classify. Raises InferenceError."""
        if self.lanes > 1:  # it lets as many in itself
            return self._classifier.classify(tensor)
        with self._lock:
            return self._classifier.classify(tensor)

    def run(self, tensor: Tensor) -> Callable[[], Inference]:
        """`classify` without what can be done while the next frame is classified: that does what is returned.

        Both raise InferenceError.
        """
        with self._lock:
            return self._run(tensor)

    def close(self) -> None:
        """Release the model and the device once nobody classifies."""
        with self._lock:
            self._classifier.close()


class Classifiers:
    """Loads classifiers when they are first asked for; used by the service's thread."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Path, str, str | None, str], SharedClassifier] = {}

    def get(self, plan: Plan) -> SharedClassifier:
        """The classifier of a plan, loaded and warmed up. Raises ModelError, MissingError, InferenceError."""
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

    def keep_only(self, plans: Iterable[Plan]) -> None:
        """Release those that none of `plans` uses: an Edge TPU serves one of them only."""
        for key in self._loaded.keys() - {_key(plan) for plan in plans}:
            self._loaded.pop(key).close()

    def close(self) -> None:
        """Release all of them."""
        self.keep_only(())


def _run_whole(classifier: Classifier, tensor: Tensor) -> Callable[[], Inference]:
    inference = classifier.classify(tensor)
    return lambda: inference


def _key(plan: Plan) -> tuple[Path, str, str | None, str]:
    twin = None if plan.cpu_bundle is None else plan.cpu_bundle.sha256
    # Not as JSON, which knows no names of files that are not UTF-8.
    return (plan.bundle.path, plan.bundle.sha256, twin, repr(plan.section.model))


def edgetpu_settings(section: EdgeTpuSection) -> EdgeTpuSettings:
    """The section as the accelerator takes it."""
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings  # noqa: PLC0415 - brings the child process along

    return EdgeTpuSettings(
        library=section.library,
        options=section.options,
        deadline_s=section.deadline,
        load_deadline_s=section.load_deadline,
        reset_on_hang=section.reset_on_hang,
        count=section.count,
    )
