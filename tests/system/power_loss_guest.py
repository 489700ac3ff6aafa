"""Runs in the virtual machine whose power is cut: says what the outbox holds, then fills it until the light goes out.

Lines on the console: `FOUND first-last …` (what waits after booting), `NEXT seq` (the first new number), `DURABLE seq`
(`append` has returned), `ACKED seq` (up to here it may be forgotten; said before it is).
"""

from __future__ import annotations

import random
import sqlite3
import sys
from pathlib import Path

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, RankedLabel


def without_syncing() -> None:
    """The control: an outbox whose database does not wait for the disk must lose events here."""

    class Careless(sqlite3.Connection):
        def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
            if "synchronous" in statement.lower():
                statement = "PRAGMA synchronous=OFF"
            return super().execute(statement, *parameters)  # type: ignore[arg-type]

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Careless)  # type: ignore[assignment,misc]


def draft(clock: SystemClock) -> EventDraft:
    return EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="drive", watch="dog", label="terrier", confidence=0.8,
        top=tuple(RankedLabel(index, "some breed of terrier", 0.2) for index in range(5)), time=clock.utc(),
        clock_synchronised=False, model=ModelIdentity("model", "0" * 64, "runtime", "cpu"), inference_ms=5.0,
    )  # fmt: skip


def ranges(numbers: list[int]) -> str:
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return " ".join(f"{first}-{last}" for first, last in found)


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    if "careless" in sys.argv:
        without_syncing()
    clock = SystemClock()
    outbox = Outbox(Path("/var/lib/edge-classifierd/outbox.sqlite3"), topic=lambda _: "t", clock=clock)
    waiting: list[int] = []
    while page := outbox.pending(waiting[-1] if waiting else 0, 1000):
        waiting += [stored.position for stored in page]
    say(f"FOUND {ranges(waiting)}")
    first = True
    while True:
        for event in outbox.append([draft(clock) for _ in range(random.choice([1, 1, 1, 5]))]):
            say(f"NEXT {event.seq}" if first else f"DURABLE {event.seq}")
            if first:
                say(f"DURABLE {event.seq}")
            first = False
            waiting.append(event.seq)
        if len(waiting) > 300:
            say(f"ACKED {waiting[200]}")
            outbox.acknowledge(waiting[:201])
            waiting = waiting[201:]


main()
