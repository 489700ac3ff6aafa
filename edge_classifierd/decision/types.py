"""What goes into a decision and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Combine = Literal["sum", "max"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A class and its confidence, 0 to 1."""

    index: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Observation:
    """What the classifier saw in one frame."""

    at_s: float
    """Monotonic seconds at which the frame was captured."""
    confidences: NDArray[np.float32]
    """Shape (classes,), 0 to 1."""
    best: Ranked | None
    """The best of the classes that may be reported; None when there is none."""
    lead: float = 1.0
    """How far it is ahead of the second; only looked at when there is an ambiguity margin."""


@dataclass(frozen=True, slots=True)
class WatchRule:
    """When a watch begins and ends; `indices` None watches whatever is on top (the watch `any`)."""

    name: str
    indices: tuple[int, ...] | None
    threshold: float
    release: float
    confirm: int = 1
    cooldown_s: float = 0.0
    combine: Combine = "sum"
    """`sum` for softmax models, whose classes exclude one another; `max` for multi-label ones."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or not 0 <= self.release <= self.threshold:
            raise ValueError(f"watch {self.name}: release {self.release}, threshold {self.threshold}")
        if self.confirm < 1 or self.cooldown_s < 0 or self.indices == ():
            raise ValueError(f"watch {self.name}: confirm {self.confirm}, cooldown {self.cooldown_s}, no classes")


@dataclass(frozen=True, slots=True)
class Decision:
    """A watch began (`detected`) or ended (`cleared`)."""

    type: Literal["detected", "cleared"]
    watch: str
    index: int
    """The watch's strongest class; for `cleared` the one that it was detected with."""
    confidence: float
    active_s: float | None
    """For `cleared`: how long the watch was on."""


@dataclass(frozen=True, slots=True)
class WatchState:
    """Where a watch stands after the latest observation."""

    active: bool
    confidence: float
    threshold: float
    since_s: float | None
    """Monotonic seconds of the `detected`, while active."""
    index: int | None
    """The class it was detected with, while active."""
    quiet_until_s: float
    """Monotonic seconds before which its cooldown keeps it from being detected; minus infinity when it never did."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one observation led to."""

    decisions: tuple[Decision, ...]
    ambiguous: bool
    """The two best classes were closer than the ambiguity margin."""
