"""Selects the decoded frames of a stream that are neither damaged nor depend on a damaged or missing one."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from av.video.frame import PictureType

if TYPE_CHECKING:
    from collections.abc import Callable

    import av

    from edge_classifierd.frames.damage import Damage

_MOST_WITHOUT_KEY: Final = 1800
"""Frames or packets that are skipped while a key frame is awaited; then decoding goes on without one."""
_KNOW_WHERE_TO_START: Final = frozenset({"h264", "hevc"})
"""Their decoders deliver nothing before a recovery point, which need not be a key frame (intra refresh)."""
_MOST_REORDERED: Final = 8
"""Frames that may be shown before one that was decoded earlier. Streams of cameras have at most three."""


class SoundFrames:
    """Skips frames before the first key frame, and from a damaged one up to the next sound key frame.

    A decoder returns frames in the order of display. A frame that is shown before one that it may depend on (a B-frame)
    is held until that one has come, because only then it is known whether that one is damaged. Used by one thread.
    """

    def __init__(self, damage: Damage, codec: av.Codec) -> None:
        """`damage` counts what is skipped."""
        self._damage = damage
        self._independent = codec.intra_only
        # FFmpeg makes up a frame without a type where the first one of a stream with B-frames depends on another one.
        # Decoders of other codecs may give no type at all.
        self._first_types = {PictureType.I} if codec.reorder else {PictureType.I, PictureType.NONE}
        self._sent = 0
        self._awaited: dict[int, int] = {}
        """Numbers of the packets whose frames have not come yet, by their timestamps."""
        self._key_pts: int | None = None
        self._leads = False
        """Whether the frame of the last packet is shown before the last key frame."""
        self._held: deque[tuple[int, av.VideoFrame]] = deque()
        self.awaits_first = not codec.intra_only and codec.name not in _KNOW_WHERE_TO_START
        """Whether no frame that the stream may start with has come yet."""
        self._broken_from: int | None = None
        """Number of the first packet that is damaged, or that depends on a damaged or missing one."""
        self._broken_to = 0
        """Number of the last damaged packet; a key frame after it ends the damage."""
        self._without_key = 0

    @property
    def awaited_enough(self) -> bool:
        """Whether so much was skipped that decoding goes on without a key frame."""
        return self._without_key >= _MOST_WITHOUT_KEY

    def skip(self) -> None:
        """Count a packet or frame that is skipped while a key frame is awaited."""
        self._without_key += 1
        self._damage.skipped += 1

    def send(self, pts: int, *, key: bool) -> None:
        """Record that a packet with this timestamp is decoded next; `key`: it is marked as a key frame."""
        self._sent += 1
        self._awaited[pts] = self._sent
        if key:
            self._key_pts = pts
        self._leads = not key and self._key_pts is not None and pts < self._key_pts

    def damaged(self, what: str) -> None:
        """Record that the last packet is damaged or depends on a missing one. Raises SourceError after 500 in a row."""
        if self._leads and self._broken_from is not None:
            self._damage.skip(what)  # shown before the last key frame: what follows that does not depend on it
        else:
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
            if self._is_sound(number, frame):
                released.append(frame)
        return released

    def _is_sound(self, number: int, frame: av.VideoFrame) -> bool:
        if self.awaited_enough or (frame.key_frame and number > self._broken_to):
            self.awaits_first, self._broken_from = False, None
        elif frame.pict_type in self._first_types:
            self.awaits_first = False
        if self.awaits_first or (self._broken_from is not None and number >= self._broken_from):
            self.skip()
            return False
        self._without_key = 0
        return True

    def _break(self, what: str, first: int, last: int) -> None:
        self._damage.skip(what)
        self._broken_from = first if self._broken_from is None else min(first, self._broken_from)
        self._broken_to = max(last, self._broken_to)
