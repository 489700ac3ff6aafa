"""The routes of past events, their pictures, and people's verdicts on them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.responses import Response

from edge_classifierd.errors import OutboxError
from edge_classifierd.events.history import EventFilter, oldest_event_id, read_events
from edge_classifierd.events.ulid import is_ulid
from edge_classifierd.web.route import PageRoute, RequestError, json_answer, json_route, query_number, read_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from edge_classifierd.events.history import PastEvent
    from edge_classifierd.events.schema import Event
    from edge_classifierd.web.device.records import Records

_MOST: Final = 200
_MOST_READ: Final = 5000
"""Bounds the time of a search while many events wait for the broker."""
_VERDICTS: Final = "verdict/"
_VALUES: Final = ("right", "wrong", None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A person's verdict on an event."""

    value: str | None
    """`right`, `wrong`, or None to take it back."""
    model: str | None
    """The taught model that it is for; None: the one that the pipeline uses, or that is taught from its camera."""
    class_id: str | None
    """What it is; None: of a right one the event's own class, of a wrong one not known."""


class VerdictKeeper(Protocol):
    """Learns from verdicts."""

    async def apply(self, event: Event, verdict: Verdict) -> dict[str, Any] | None:
        """Keep the picture of an event for a taught model; return where it is, None when it was not kept.

        Raises RequestError.
        """


class EventRoutes:
    """Reads events from the outbox's database, without its lock."""

    def __init__(self, records: Records, keeper: VerdictKeeper | None = None) -> None:
        """`keeper` learns from verdicts."""
        self._records = records
        self._keeper = keeper

    def routes(self) -> tuple[PageRoute, ...]:
        """Return the routes of this module."""
        return (
            PageRoute("GET", "/api/events", self._events),
            PageRoute("GET", "/api/events/{id}/picture.jpg", self._picture),
            json_route("PUT", "/api/events/{id}/verdict", self._verdict),
        )

    async def _events(self, request: Request) -> Response:
        limit = query_number(request, "limit", 50, least=1, most=_MOST)
        query = request.query_params
        before = query.get("before") or None
        if before is not None and not is_ulid(before):
            raise RequestError(422, "value_refused", "`before` must be an event_id", field="before")
        wanted = EventFilter(query.get("pipeline") or None, query.get("watch") or None, before=before)
        found = await self._read(wanted, limit + 1)
        pictures = await asyncio.to_thread(self._records.pictures.ids)
        verdicts = self._records.outbox.state(_VERDICTS)
        events = [_document(past, pictures, verdicts) for past in found[:limit]]
        return json_answer({"events": events, "more": len(found) > limit})

    async def _picture(self, request: Request) -> Response:
        jpeg = await asyncio.to_thread(self._records.pictures.read, request.path_params["id"])
        if jpeg is None:
            raise RequestError(404, "no_picture", "there is no picture of this event")
        return Response(jpeg, media_type="image/jpeg")

    async def _verdict(self, request: Request) -> Response:
        event_id = request.path_params["id"]
        verdict = _verdict_in(await read_json(request))
        found = await self._read(EventFilter(event_id=event_id), 1) if is_ulid(event_id) else []
        if not found:
            raise RequestError(404, "no_event", "there is no such event")
        kept = None if self._keeper is None else await self._keeper.apply(found[0].event, verdict)
        await asyncio.to_thread(self._store, event_id, verdict.value)
        return json_answer({"value": verdict.value, "kept": kept})

    async def _read(self, wanted: EventFilter, limit: int) -> list[PastEvent]:
        try:
            return await asyncio.to_thread(
                read_events, self._records.database, wanted, limit=limit, most_read=_MOST_READ
            )
        except OutboxError as error:
            raise RequestError(503, "unreadable", str(error), retry_after_s=5) from error

    def _store(self, event_id: str, value: str | None) -> None:
        """Store a verdict, and remove those of events that are gone."""
        outbox = self._records.outbox
        oldest = oldest_event_id(self._records.database) or event_id
        changes: dict[str, str | None] = {f"{_VERDICTS}{one}": None for one in outbox.state(_VERDICTS) if one < oldest}
        outbox.append((), {**changes, f"{_VERDICTS}{event_id}": value})


def _verdict_in(document: dict[str, Any]) -> Verdict:
    """Return the verdict in a body. Raises RequestError."""
    value, model, class_id = document.get("value"), document.get("model"), document.get("class")
    if "value" not in document or value not in _VALUES:
        raise RequestError(422, "value_refused", "`value` must be right, wrong or null", field="value")
    for name, given in (("model", model), ("class", class_id)):
        if given is not None and not isinstance(given, str):
            raise RequestError(422, "value_refused", f"`{name}` must be text or null", field=name)
    return Verdict(value, model, class_id)


def _document(past: PastEvent, pictures: frozenset[str], verdicts: dict[str, str]) -> dict[str, Any]:
    event_id = past.event.event_id
    return {**json.loads(past.payload), "picture": event_id in pictures, "verdict": verdicts.get(event_id)}
