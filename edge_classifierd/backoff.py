"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits with jitter between `first_s` and `longest_s`, so that a fleet does not return all at once."""

    first_s: float = 1.0
    longest_s: float = 120.0

    def delay_s(self, failures: int) -> float:
        """The wait after so many failures in a row, at least one."""
        base_s = self.first_s * 2.0 ** min(max(failures, 1) - 1, 32)
        return min(self.longest_s, random.uniform(base_s, 2 * base_s))  # noqa: S311 - jitter, no secret

    def refused_s(self) -> float:
        """The wait after a refusal that only a person can end: the longest, and a little less for jitter."""
        return self.longest_s * random.uniform(0.9, 1.0)  # noqa: S311 - jitter, no secret
