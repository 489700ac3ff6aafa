"""Classifies one frame with another region, without an effect on the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_classifierd.pipeline.event_builder import EventBuilder
from edge_classifierd.pipeline.observation.observer import observed_frame

if TYPE_CHECKING:
    from edge_classifierd.frames.base import Frame
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.pipeline.observation.observer import ObservedFrame
    from edge_classifierd.pipeline.planning.plan import Plan


def classify_once(plan: Plan, classifier: SharedClassifier, frame: Frame) -> ObservedFrame:
    """Return what a plan would see in a frame. Waits for the classifier; raises InferenceError."""
    preprocess = plan.preprocessor()
    inference = classifier.classify(preprocess(frame.for_model(preprocess.needs)))
    builder = EventBuilder(plan, device="", runtime=lambda: "")
    result = builder.observe(frame, inference, clock_synchronised=lambda: True)
    return observed_frame(plan, frame, inference, result.reportable, builder.policy.states())
