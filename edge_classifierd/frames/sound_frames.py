"""Selects the decoded frames of a stream that are neither damaged nor depend on a damaged or missing one."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import av

    from edge_classifierd.frames.damage import Damage

MOST_WITHOUT_KEY: Final = 1800
"""Frames or packets that are skipped while a key frame is awaited; then decoding goes on without one."""
_MOST_REORDERED: Final = 8
"""Frames that may be shown before one that was decoded earlier. Streams of cameras have at most three."""


class SoundFrames:
    """Numbers the packets of a stream and skips frames from a damaged one up to the next sound key frame.

    A decoder returns frames in the order of display. A frame that is shown before one that it may depend on (a B-frame)
    is held until that one has come, because only then it is known whether that one is damaged. Used by one thread.
    """

    def __init__(self, damage: Damage, *, independent: bool) -> None:
        """`damage` counts what is skipped. `independent`: no frame depends on another one (MJPEG)."""
        self._damage = damage
        self._independent = independent
        self._sent = 0
        self._awaited: dict[int, int] = {}
        """Numbers of the packets whose frames have not come yet, by their timestamps."""
        self._held: deque[tuple[int, av.VideoFrame]] = deque()
        self._broken_from: int | None = None
        """Number of the first packet that is damaged, or that depends on a damaged or missing one."""
        self._broken_to = 0
        """Number of the last damaged packet; a key frame after it ends the damage."""
        self._without_key = 0

    def send(self, pts: int) -> None:
        """Record that a packet with this timestamp is decoded next."""
        self._sent += 1
        self._awaited[pts] = self._sent

    def damaged(self, what: str) -> None:
        """Record that the last packet is damaged or depends on a missing one. Raises SourceError after 500 in a row."""
        self._break(what, self._sent, self._sent)

    def missing(self, what: str) -> None:
        """Record that data after the last packet is missing. Raises SourceError after 500 in a row."""
        self._break(what, self._sent + 1, self._sent)

    def add(self, frame: av.VideoFrame) -> list[av.VideoFrame]:
        """Add the next frame in the order of display; return the sound frames that can be delivered now."""
        number = self._sent if frame.pts is None else self._awaited.pop(frame.pts, self._sent)
        if self._independent and not frame.is_corrupt:
            return [frame]
        if frame.is_corrupt:
            self._break("a damaged frame", number, number)
        else:
            self._held.append((number, frame))
        for pts in [pts for pts, other in self._awaited.items() if other < number - _MOST_REORDERED]:
            del self._awaited[pts]  # the decoder left it out
        first_awaited = min(self._awaited.values(), default=self._sent + 1)
        return self._release(lambda number: number < first_awaited or len(self._held) > _MOST_REORDERED)

    def rest(self) -> list[av.VideoFrame]:
        """Return the sound frames that are still held, at the end of the stream."""
        return self._release(lambda _: True)

    def _release(self, is_due: Callable[[int], bool]) -> list[av.VideoFrame]:
        released = []
        while self._held and is_due(self._held[0][0]):
            number, frame = self._held.popleft()
            if self._is_sound(number, key=frame.key_frame):
                released.append(frame)
        return released

    def _is_sound(self, number: int, *, key: bool) -> bool:
        if self._broken_from is None or number < self._broken_from:
            return True
        if (key and number > self._broken_to) or self._without_key >= MOST_WITHOUT_KEY:
            self._broken_from, self._without_key = None, 0
            return True
        self._without_key += 1
        self._damage.skipped += 1
        return False

    def _break(self, what: str, first: int, last: int) -> None:
        self._damage.skip(what)
        self._broken_from = first if self._broken_from is None else min(first, self._broken_from)
        self._broken_to = max(last, self._broken_to)
