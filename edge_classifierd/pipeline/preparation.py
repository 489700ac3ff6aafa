"""Turns frames into input tensors, following changes of the pipeline's region."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_classifierd.frames.base import Frame
    from edge_classifierd.pipeline.planning.plan import Plan
    from edge_classifierd.preprocess import Tensor


def make_prepare(current_plan: Callable[[], Plan]) -> Callable[[Frame], Tensor]:
    """Return a function that turns a frame of a pipeline into the input tensor; any thread may call it.

    A thread that finds all preprocessors in use makes another one, so there are as many as threads.
    """
    unused: deque[Callable[[Frame], Tensor]] = deque([_make_prepare(current_plan)])

    def prepare(frame: Frame) -> Tensor:
        try:
            one = unused.pop()
        except IndexError:
            one = _make_prepare(current_plan)
        try:
            return one(frame)
        finally:
            unused.append(one)

    return prepare


def _make_prepare(current_plan: Callable[[], Plan]) -> Callable[[Frame], Tensor]:
    """Return a function that one thread at a time may call; it follows changes of the plan's view."""
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
