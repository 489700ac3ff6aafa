"""Turns frames into input tensors, following changes of the pipeline's region."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.preprocess import Preprocessor, Tensor


def make_prepare(current_plan: Callable[[], Plan]) -> Callable[[Frame], Tensor]:
    """Return a function that turns a frame of a pipeline into the input tensor; any thread may call it.

    A thread that finds all preprocessors in use makes another one, so there are as many as threads.
    """
    first = current_plan()
    unused: deque[tuple[Plan, Preprocessor]] = deque([(first, first.preprocessor())])

    def prepare(frame: Frame) -> Tensor:
        plan = current_plan()
        try:
            made_for, preprocess = unused.pop()
        except IndexError:
            made_for, preprocess = plan, plan.preprocessor()
        try:
            if plan is not made_for:
                if plan.view != made_for.view:
                    preprocess = plan.preprocessor()
                made_for = plan
            square = None if frame.focus is None else frame.focus.square
            return preprocess(frame.for_model(partial(preprocess.needs, region=square)), square)
        finally:
            unused.append((made_for, preprocess))

    return prepare
