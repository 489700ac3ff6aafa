"""The types of a frame and of a frame source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import av

    from edge_classifierd.motion.gate import Focus, SeenThing

    Needs = Callable[[int, int], tuple[int, int]]
    """Returns, for the size of a source's picture, the smallest size that loses nothing for the model."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture from a source.

    Rotation, mirroring and region are not applied yet, unless the source's section says so (`turns_itself`,
    `cuts_itself`).
    """

    picture: av.VideoFrame
    """Any pixel format that swscale reads (rgb24, yuv420p, nv12, yuyv422 …). Owns its memory."""
    sequence: int
    """Counts from 0 over the life of the source object."""
    captured_s: float
    """Monotonic seconds at which the frame was delivered."""
    captured_at: datetime
    """The same moment in UTC."""
    name: str | None = None
    """The file's name, when the frame comes from a file."""
    small: av.VideoFrame | None = None
    """The same picture, scaled down by the camera itself for a model, if it can do so."""
    things: tuple[SeenThing, ...] = ()
    """What the motion gate follows in it."""
    focus: Focus | None = None
    """The part that is classified instead of the pipeline's region, once the frame was taken."""

    def for_model(self, needs: Needs) -> av.VideoFrame:
        """Return the smaller picture if there is one and it is large enough for the model, else the large one."""
        if self.small is None:
            return self.picture
        width, height = needs(self.picture.width, self.picture.height)
        return self.small if self.small.width >= width and self.small.height >= height else self.picture


class FrameGate(Protocol):
    """Keeps frames of a pipeline from the classifier."""

    def admit(self, frame: Frame) -> Frame | None:
        """Return the frame if it is to be classified, with `things`; called with every frame in the camera's thread."""

    def aim(self, frame: Frame) -> Frame:
        """Return an admitted frame with its `focus`; called in the thread that takes the frame."""


class FrameSource(Protocol):
    """A camera, a stream or a folder. Used by one thread only, except `cancel`."""

    @property
    def live(self) -> bool:
        """Whether frames go stale (a camera), so that a slow reader skips some. False: every frame is read."""

    @property
    def skipped(self) -> int:
        """Number of pictures that could not be decoded, since the object was made."""

    @property
    def pauses_until_s(self) -> float:
        """Monotonic seconds until which `read` waits, or last waited, on purpose (pacing); this is no stall.

        Minus infinity before the first wait.
        """

    def open(self) -> None:
        """Prepare for reading. Raises SourceError (to be retried) or MissingError (a library is missing)."""

    def read(self) -> Frame | None:
        """Return the next frame, waiting for it; None at the end of a finite source. Raises SourceError."""

    def close(self) -> None:
        """Release the device; safe to call twice and without `open`."""

    def cancel(self) -> None:
        """Make a blocked `open` or `read` raise SourceError soon, until `close`. Called from another thread."""
