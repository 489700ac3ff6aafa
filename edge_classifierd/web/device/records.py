"""What these routes read: the outbox with its pictures, the configuration file, the newest warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.events.outbox import Outbox
    from edge_classifierd.log import RecentWarnings
    from edge_classifierd.pipeline.event_pictures import EventPictures


@dataclass(frozen=True, slots=True)
class Records:
    """The stored data of the daemon; every part may be used from any thread."""

    config: Path
    """The configuration file."""
    database: Path
    """The outbox's database."""
    outbox: Outbox
    pictures: EventPictures
    warnings: RecentWarnings
