"""Verdicts on events that become pictures of a taught model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.pipeline.planning.plan import Plan
from edge_classifierd.preprocess import Region, View
from edge_classifierd.teaching.records import Guess
from edge_classifierd.web.teach.teacher import class_of, refused

if TYPE_CHECKING:
    from edge_classifierd.events.schema import Event
    from edge_classifierd.teaching.records import TaughtClass, TaughtModel
    from edge_classifierd.web.device.events import Verdict
    from edge_classifierd.web.teach.teacher import Teacher

_LEAST_SIDE: Final = 0.05
_MARK: Final = 0.02
"""More than the width of the lines that `encode_jpeg` draws inside a box, in shares of the picture's width."""


class Corrections:
    """Keeps the pictures of events with a verdict: for the class that somebody chose, or to be sorted."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    async def apply(self, event: Event, verdict: Verdict) -> dict[str, Any] | None:
        """Keep the picture of an event, or put it into the bin when a verdict is taken back.

        Returns:
            Where it is now, and None when no model is concerned, or there is no picture.

        Raises:
            RequestError: There is no such model or class, or the store is full.
        """
        model = await self._model(event, verdict)
        if model is None:
            return None
        store = self._teacher.store
        if verdict.value is None:
            await self._teacher.call(store.withdraw, model.name, event.event_id)
            self._teacher.changed(model.name)
            return None
        chosen = _class(model, event, verdict)
        if chosen is None and verdict.value == "right":
            return None
        jpeg = await asyncio.to_thread(self._teacher.parts.records.pictures.read, event.event_id)
        if jpeg is None:
            return None
        added = await self._teacher.keep(
            model.name,
            class_id=None if chosen is None else chosen.id,
            picture=jpeg,
            source="event",
            captured=event.time,
            view=self._view(event),
            pipeline=event.pipeline,
            guess=Guess(event.label, event.confidence),
            origin=event.event_id,
        )
        self._teacher.changed(model.name)
        return {
            "model": model.name,
            "class": None if chosen is None else chosen.id,
            "name": None if chosen is None else chosen.name,
            "kept": added.kept,
            "picture": added.id,
            "step": added.step,
        }

    async def _model(self, event: Event, verdict: Verdict) -> TaughtModel | None:
        store, used = self._teacher.store, self._teacher.model_of(event.pipeline)
        name = verdict.model or used
        if name is not None:
            with refused():
                try:
                    return await asyncio.to_thread(store.model, name)
                except EdgeClassifierError:
                    if verdict.model is None:
                        return None
                    raise
        models = await self._teacher.call(store.models)
        return next((one for one in models if one.pipeline == event.pipeline), None)

    def _view(self, event: Event) -> View:
        """Return the part of an event's picture to learn from: inside the box that is drawn around what moved."""
        plan = next((view.plan for view in self._teacher.parts.control.view() if view.name == event.pipeline), None)
        if event.box is None or not isinstance(plan, Plan) or plan.section.snapshot.show == "crop":
            return View()
        box, shown = event.box, plan.region
        left, right = ((x - shown.x) / shown.width for x in (box.x, box.x + box.width))
        top, bottom = ((y - shown.y) / shown.height for y in (box.y, box.y + box.height))
        left, top = max(0.0, left + _MARK), max(0.0, top + _MARK)
        right, bottom = min(1.0, right - _MARK), min(1.0, bottom - _MARK)
        if right - left < _LEAST_SIDE or bottom - top < _LEAST_SIDE:
            return View()
        return View(region=Region(left, top, right - left, bottom - top))


def _class(model: TaughtModel, event: Event, verdict: Verdict) -> TaughtClass | None:
    """Return the class that a verdict names, or of a right one that of the event. Raises RequestError."""
    if verdict.class_id is not None:
        return class_of(model, verdict.class_id)
    if verdict.value == "right":
        return next((one for one in model.classes if event.watch == one.slug or event.label == one.name), None)
    return None
