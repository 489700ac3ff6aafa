"""A live camera made from photographs: it shows one thing at a time, each picture a little different."""

from __future__ import annotations

import io
import random
from typing import Final

from daemon_process import PHOTOS
from PIL import Image, ImageEnhance
from stream_servers import SnapshotServer

SIZE: Final = (480, 360)
VARIANTS: Final = 60


class TeachCamera(SnapshotServer):
    """Answers each request with a picture of the thing that `show` has named, moved, turned, nearer or darker."""

    def __init__(self, *names: str) -> None:
        """`names` are bundled photographs; the first one is shown at first."""
        self._variants = {name: _variants(name) for name in names}
        self._shown = names[0]
        self._turn = 0
        super().__init__()

    def show(self, name: str) -> None:
        """Put another thing before the camera."""
        self._shown = name

    def pictures(self, name: str) -> list[bytes]:
        """Return what the camera shows of a thing, as JPEGs."""
        return self._variants[name]

    def _answer(self, request: str) -> bytes:
        self._turn += 1
        self._pictures = [self._variants[self._shown][self._turn % VARIANTS]]
        return super()._answer(request)


def _variants(name: str) -> list[bytes]:
    choice = random.Random(name)
    with Image.open(PHOTOS / f"{name}.jpg") as photograph:
        whole = photograph.convert("RGB")
    return [_varied(whole, choice) for _ in range(VARIANTS)]


def _varied(whole: Image.Image, choice: random.Random) -> bytes:
    share = choice.uniform(0.7, 1.0)
    width, height = whole.width * share, whole.height * share
    left, top = choice.uniform(0, whole.width - width), choice.uniform(0, whole.height - height)
    turned = whole.rotate(choice.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    cut = turned.resize(SIZE, box=(left, top, left + width, top + height))
    if choice.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    content = io.BytesIO()
    ImageEnhance.Brightness(cut).enhance(choice.uniform(0.75, 1.25)).save(content, "JPEG", quality=85)
    return content.getvalue()
