"""Checks the picture of one camera a few times a minute: whether it is frozen, or one even colour."""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Final

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from edge_classifierd.health.metrics import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

FROZEN: Final = "frozen"
BLANK: Final = "blank"
CHECK_EVERY_S: Final = 10.0
FROZEN_AFTER_S: Final = 180.0
"""Longer than the distance of key frames, which differ by some noise where the encoder skips still blocks."""
BLANK_AFTER_S: Final = 60.0
"""Longer than a dazzling light or a change of exposure."""
_MIN_CHECKS: Final = 10
"""A camera that sends a picture a minute may send the same one several times."""
_SAMPLE: Final = (320, 180)
_EVEN: Final = 2.0
"""Standard deviation of each colour channel, of 255, up to which a bright picture is even. Above what JPEG adds."""
_DARK: Final = 40.0
"""Mean of all channels, of 255, below which a picture is dark."""
_SENTENCES: Final = {
    FROZEN: "the camera sends the same picture again and again; restart the camera",
    BLANK: "the camera's picture is one even colour; check the lens, the cable and the sensor",
}


class PictureCheck:
    """Finds trouble with a camera's picture, and logs its beginning and end. Used by the camera's thread.

    `frozen`: the picture did not change for `FROZEN_AFTER_S`. `blank`: for `BLANK_AFTER_S` the picture without the
    upper and lower eighth, where cameras write text, is one even colour. A dark picture is `blank` only if all of it is
    exactly even, because a sensor at night has noise.
    """

    def __init__(self, name: str) -> None:
        """`name` is the camera's in messages."""
        self._name = name
        self._scaler = VideoReformatter()
        self._due_s = -np.inf
        self._checksum: int | None = None
        self._same = _Span()
        self._even = _Span()
        self.problem: Reason | None = None
        """What is wrong with the picture now; any thread may read it."""

    def observe(self, picture: av.VideoFrame, now_s: float) -> None:
        """Check a picture if the last check was at least 10 s ago. `now_s` is monotonic, in seconds."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + CHECK_EVERY_S
        try:
            # POINT copies single pixels, so that noise stays in the sample. About 0.3 ms.
            small = self._scaler.reformat(
                picture, *_SAMPLE, format="rgb24", interpolation=Interpolation.POINT, threads=1
            )
        except (av.error.FFmpegError, ValueError):  # the preprocessor reports such pictures
            return
        sample = np.asarray(small.to_ndarray(), np.uint8)
        checksum = zlib.crc32(sample.tobytes())
        self._same.extend(now_s, holds=checksum == self._checksum)
        self._checksum = checksum
        self._even.extend(now_s, holds=is_blank(sample))
        self._set(self._found(now_s))

    def _found(self, now_s: float) -> str | None:
        if self._even.lasts(now_s, BLANK_AFTER_S):
            return BLANK
        if self._same.lasts(now_s, FROZEN_AFTER_S) and self._same.checks >= _MIN_CHECKS:
            return FROZEN
        return None

    def _set(self, flag: str | None) -> None:
        before = None if self.problem is None else self.problem.flag
        if flag == before:
            return
        if flag is None:
            _log.info("%s: the picture is in order again", self._name)
            self.problem = None
        else:
            _log.warning("%s: %s", self._name, _SENTENCES[flag])
            self.problem = Reason(flag, _SENTENCES[flag])


def is_blank(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a picture shows nothing; `pixels` has the shape (height, width, 3), RGB.

    True for a bright picture whose middle three quarters are one even colour, and for a dark one that is exactly even.
    """
    if pixels.mean() < _DARK:
        return bool((pixels == pixels[0, 0]).all())
    eighth = pixels.shape[0] // 8
    middle = pixels[eighth : pixels.shape[0] - eighth]
    return bool((middle.std(axis=(0, 1)) <= _EVEN).all())


class _Span:
    """How long something holds, over consecutive checks."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self.checks = 0

    def extend(self, now_s: float, *, holds: bool) -> None:
        if not holds:
            self.checks = 0
        elif not self.checks:
            self._since_s = now_s
        self.checks += holds

    def lasts(self, now_s: float, duration_s: float) -> bool:
        return bool(self.checks) and now_s - self._since_s >= duration_s
