"""How long to wait before a failed source is opened again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_s` to `longest_s`; of each, a random part between half and all is taken.

    A library that is missing will not come soon: `missing_s` is the first wait for it and ten times that the longest.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    missing_s: float = 30.0

    def delay_s(self, attempt: int, *, missing: bool, random: Random) -> float:
        """The wait after failure number `attempt`, which counts from 1."""
        first_s, longest_s = (self.missing_s, 10 * self.missing_s) if missing else (self.first_s, self.longest_s)
        return min(longest_s, first_s * 2.0 ** min(attempt - 1, 30)) * random.uniform(0.5, 1.0)
