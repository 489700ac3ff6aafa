"""Counts and logs the damaged data of one source."""

from __future__ import annotations

import logging
from typing import Final

from edge_classifierd.errors import SourceError

_log = logging.getLogger(__name__)

_EPISODE_FRAMES: Final = 250
"""Good frames after which the next damage is logged again."""


class Damage:
    """Counts what was skipped; warns once per episode. Used by one thread; any thread may read `skipped`."""

    def __init__(
        self,
        name: str,
        *,
        quiet: bool = False,
        most_in_a_row: int = 500,
        too_many: str = "damaged packets in a row; check the source",
    ) -> None:
        """Count nothing yet.

        Args:
            name: The source in messages.
            quiet: Log nothing.
            most_in_a_row: So many damaged pieces without a good frame between them are a failure.
            too_many: What the failure says behind their number.
        """
        self.skipped = 0
        """Packets and frames skipped so far."""
        self._name = name
        self._quiet = quiet
        self._most_in_a_row = most_in_a_row
        self._too_many = too_many
        self._in_a_row = 0
        self._good = _EPISODE_FRAMES

    def skip(self, what: str) -> None:
        """Count damaged data. Raises SourceError after too many pieces without a good frame between them."""
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= self._most_in_a_row:
            raise SourceError(f"{self._name}: {self._in_a_row} {self._too_many}")
        if self._good >= _EPISODE_FRAMES and not self._quiet:
            _log.warning("%s: skipped %s; further damage in this episode is counted only", self._name, what)
        self._good = 0

    def good(self) -> None:
        """Record a good frame."""
        self._in_a_row = 0
        self._good += 1

    def progress(self) -> None:
        """Start again with the limit of damage in a row: the source continues, or was opened again."""
        self._in_a_row = 0
