"""Turns frames into input tensors, following changes of the pipeline's region."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.preprocess import Tensor


def make_prepare(current_plan: Callable[[], Plan]) -> Callable[[Frame], Tensor]:
    """Return a function that turns the newest frame of a pipeline into the input tensor.

    One thread at a time may call it. It makes a new preprocessor when the plan's view has changed.
    """
    used = current_plan()
    view, preprocess = used.view, used.preprocessor()

    def prepare(frame: Frame) -> Tensor:
        nonlocal used, view, preprocess
        plan = current_plan()
        if plan is not used:
            if plan.view != view:
                view, preprocess = plan.view, plan.preprocessor()
            used = plan
        square = None if frame.focus is None else frame.focus.square
        return preprocess(frame.for_model(partial(preprocess.needs, region=square)), square)

    return prepare
