"""Making a JPEG of a frame: what the camera sees, upright, cut to the region, scaled down."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

from edge_classifierd.preprocess import Scaler

if TYPE_CHECKING:
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray

    from edge_classifierd.preprocess import View

# libjpeg's quality scale (1 to 95) in terms of FFmpeg's quantiser (31 to 2): libjpeg doubles the quantisation steps
# between 75 and 50 and again at 25; 2 is as fine as FFmpeg's encoder goes.
_COARSEST, _FINEST = 31, 2


def encode_jpeg(picture: av.VideoFrame, view: View, *, max_width: int, quality: int) -> bytes:
    """The JPEG of the view's region, at most `max_width` pixels wide; `quality` from 1 (small) to 95 (fine)."""
    turns = view.quarter_turns(picture)
    across = bool(turns % 2)
    width, height = (picture.height, picture.width) if across else (picture.width, picture.height)
    box = view.region_box(width, height)
    scale = min(1.0, max_width / box.width)
    # Chroma is halved in JPEG, so an even size wastes nothing and suits every decoder.
    target_width = max(2, round(box.width * scale) // 2 * 2)
    target_height = max(2, round(box.height * scale) // 2 * 2)
    size = (target_height, target_width) if across else (target_width, target_height)
    scaled = Scaler().jpeg(picture, view.source_box(box, turns, width, height), *size)
    if turns or view.mirror != "none" or scaled is picture:  # whose time the encoder would change
        scaled = _upright(scaled, view, turns)
    return _encode(scaled, quality)


def _upright(picture: av.VideoFrame, view: View, turns: int) -> av.VideoFrame:
    """A copy of a planar picture as people see it."""
    width, height = (picture.height, picture.width) if turns % 2 else (picture.width, picture.height)
    upright = av.VideoFrame(width, height, picture.format.name)
    for plane, target in zip(picture.planes, upright.planes, strict=True):
        _samples(target)[:] = view.upright(_samples(plane), turns)
    return upright


def _samples(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.ndarray((plane.height, plane.width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))


def _encode(frame: av.VideoFrame, quality: int) -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.thread_count = 1
    quantiser = max(_FINEST, min(_COARSEST, round(_FINEST + (95 - quality) / 94 * (_COARSEST - _FINEST))))
    context.qmin = context.qmax = quantiser
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
