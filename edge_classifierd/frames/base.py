"""What a frame and a frame source are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import av

    Needs = Callable[[int, int], tuple[int, int]]
    """From a picture's size, as the source delivers it, to the smallest size in which a model misses nothing of it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture from a source, as the source delivers it: rotation, mirroring and region are not applied yet.

    Except for what its section says that the source does itself (`turns_itself`, `cuts_itself`).
    `picture` is any pixel format that swscale reads (rgb24, yuv420p, nv12, yuyv422 …) and owns its memory: it stays
    valid for as long as the frame is referenced. `sequence` counts from 0 over the life of the source object.
    """

    picture: av.VideoFrame
    sequence: int
    captured_s: float
    """Monotonic seconds at which the frame was delivered."""
    captured_at: datetime
    """The same moment on the wall clock, UTC."""
    name: str | None = None
    """The file's name, for sources made of files."""
    small: av.VideoFrame | None = None
    """The same picture as the camera itself has scaled it down for the model, where it can."""

    @property
    def for_model(self) -> av.VideoFrame:
        """What the model's input is best made from."""
        return self.picture if self.small is None else self.small


class FrameSource(Protocol):
    """A camera, a stream or a folder. Used by one thread only, except `cancel`."""

    @property
    def live(self) -> bool:
        """True when frames go stale (a camera): a slow reader then skips some. False: every frame is wanted."""

    @property
    def skipped(self) -> int:
        """Pictures that could not be decoded and were skipped, since the object was made."""

    @property
    def pauses_until_s(self) -> float:
        """Monotonic seconds until which `read` waits on purpose (pacing), or has waited; minus infinity before.

        However long that is, it is no stall.
        """

    def open(self) -> None:
        """Make ready to read. Raises SourceError (worth retrying) or MissingError (a library is not there)."""

    def read(self) -> Frame | None:
        """Block until the next frame; None at the end of a finite source. Raises SourceError when it fails."""

    def close(self) -> None:
        """Release the device; safe to call twice and without `open`."""

    def cancel(self) -> None:
        """Called from another thread: make a blocked `open` or `read` raise SourceError soon; holds until `close`."""
