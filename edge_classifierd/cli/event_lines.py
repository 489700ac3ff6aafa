"""One line of text for an event, as `listen` and `events` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_classifierd.events.schema import Event


def event_line(event: Event, where: str, time_format: str) -> str:
    """Return time here, number, place and what happened. Raises ValueError or OSError for a time out of range."""
    lasted = "" if event.active_s is None else f" after {event.active_s:.1f} s"
    when = event.time.astimezone().strftime(time_format)
    what = f"{event.watch} {event.type.value}{lasted}: {event.label} ({event.confidence:.0%})"
    number = "not stored" if event.seq is None else f"#{event.seq}"
    return f"{when}  {number}  {where}  {what}"
