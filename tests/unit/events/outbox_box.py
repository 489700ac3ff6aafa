"""An outbox that tests open again and again, and short ways to fill and read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from event_samples import FakeClock, sample

from edge_classifierd.events.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


def trouble(outbox: Outbox) -> str:
    assert outbox.durable == (outbox.trouble is None)
    return outbox.trouble or ""


class Box:
    """Opens the same outbox again and again; `crash` leaves it without the courtesy of `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self._open: list[Outbox] = []

    def __call__(self, max_events: int = 100_000, max_age_s: float = 14 * 86400.0, keep_sent: int = 500) -> Outbox:
        outbox = Outbox(
            self.path, topic=lambda event: f"b/{event.pipeline}/event", clock=self.clock, max_events=max_events,
            max_age_s=max_age_s, keep_sent=keep_sent,
        )  # fmt: skip
        self._open.append(outbox)
        return outbox

    def crash(self, outbox: Outbox) -> None:
        """What a killed process leaves: files as they are, locks gone."""
        copies = {one.name: one.read_bytes() for one in self.path.parent.iterdir() if one.is_file()}
        outbox.close()
        for one in self.path.parent.iterdir():
            one.unlink()
        for name, content in copies.items():
            self.path.with_name(name).write_bytes(content)

    def close(self) -> None:
        for outbox in self._open:
            outbox.close()


def fill(outbox: Outbox, count: int) -> list[int]:
    """Append events that the disk takes; return their numbers, which are their positions as well."""
    events = [event for _ in range(count) for event in outbox.append([sample()])]
    assert all(event.durable for event in events)
    return [event.seq for event in events if event.seq is not None]


def hold(outbox: Outbox, count: int) -> list[int]:
    """Append events that the disk does not take; return their positions."""
    positions = []
    for _ in range(count):
        (event,) = outbox.append([sample()])
        assert (event.seq, event.durable) == (None, False)
        positions.append(outbox.last_position)
    return positions


def waiting(outbox: Outbox) -> list[int]:
    return [row.position for row in outbox.pending(0, 1_000_000)]
