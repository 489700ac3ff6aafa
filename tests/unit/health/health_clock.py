"""A clock that stands still until told."""

from __future__ import annotations

from datetime import UTC, datetime


class HandClock:
    """Time passes only through `pass_s`."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return datetime(2026, 11, 21, 22, 26, 11, 123456, UTC)

    def synchronised(self) -> bool:
        return True
