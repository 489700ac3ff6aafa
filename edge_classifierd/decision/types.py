"""The input and output types of the decision policy."""

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
    """The scores of one frame, or of one part of it."""

    at_s: float
    """Monotonic seconds at which the frame was captured."""
    confidences: NDArray[np.float32]
    """Shape (classes,), 0 to 1."""
    best: Ranked | None
    """The best of the classes that may be reported; None without one."""
    lead: float = 1.0
    """Its lead over the second class; only used with an ambiguity margin."""


@dataclass(frozen=True, slots=True)
class WatchRule:
    """When a watch is detected and cleared; with `indices` None it follows the best class (the watch `any`)."""

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
    """A watch went on (`detected`) or off (`cleared`)."""

    type: Literal["detected", "cleared"]
    watch: str
    index: int
    """The watch's strongest class; for `cleared` the class it was detected with."""
    confidence: float
    active_s: float | None
    """For `cleared`: seconds for which the watch was on."""
    view: int = 0
    """Which of the observations of the round has the confidence."""


@dataclass(frozen=True, slots=True)
class WatchState:
    """The state of a watch after the latest observation."""

    active: bool
    confidence: float
    threshold: float
    since_s: float | None
    """Monotonic seconds of the `detected`, while active."""
    index: int | None
    """The class it was detected with, while active."""
    quiet_until_s: float
    """Monotonic seconds at which its cooldown ends; minus infinity when there was none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one observation."""

    decisions: tuple[Decision, ...]
    ambiguous: bool
    """Whether the two best classes were closer than the ambiguity margin."""
