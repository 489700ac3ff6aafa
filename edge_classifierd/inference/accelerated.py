"""What a classifier with an accelerator tells beside its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edge_classifierd.inference.edgetpu.devices import Warmth


@runtime_checkable
class Accelerated(Protocol):
    """What a classifier with an accelerator tells beside its answers; any thread may read."""

    @property
    def degradation(self) -> str | None:
        """Why it does not compute as configured, one sentence; None when it does."""

    @property
    def heat_warning(self) -> str | None:
        """The accelerator is slowed down by its temperature, one sentence; None when it is not."""

    @property
    def warmth(self) -> tuple[tuple[str, Warmth], ...]:
        """Temperature and clock of the accelerators that tell them, by name."""


@runtime_checkable
class Concurrent(Protocol):
    """A classifier that any number of threads may use at once."""

    @property
    def lanes(self) -> int:
        """So many of them it serves at the same time; more wait."""
