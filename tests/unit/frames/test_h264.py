"""Missing frames of an H.264 stream are found by the frame numbers in its slices."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moving_pictures import picture

from edge_classifierd.frames.h264 import FrameNumbers

if TYPE_CHECKING:
    from collections.abc import Sequence


def packets(
    profile: str = "high", bframes: int = 0, count: int = 40, length_bytes: int = 0
) -> tuple[list[bytes], bytes]:
    """The packets of a stream in decoding order, with start codes or lengths, and the codec's extradata."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.time_base = 160, 120, Fraction(1, 25)
    context.pix_fmt = "yuv444p" if profile == "high444" else "yuv420p"
    context.profile = {"baseline": "Baseline", "high": "High", "high444": "High 4:4:4 Predictive"}[profile]
    repeat = int(not length_bytes)
    context.options = {"x264-params": f"repeat-headers={repeat}:annexb={repeat}:bframes={bframes}:keyint=20:scenecut=0"}
    if length_bytes:
        context.flags |= av.codec.context.Flags.global_header
    frames = [
        picture(40 + 3 * number, noise=number % 5 == 0).reformat(format=context.pix_fmt) for number in range(count)
    ]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
    made = [bytes(packet) for frame in [*frames, None] for packet in context.encode(frame)]
    return made, bytes(context.extradata or b"")


def missing(stream: Sequence[bytes], extradata: bytes = b"") -> list[int]:
    numbers = FrameNumbers(extradata or None)
    return [at for at, packet in enumerate(stream) if numbers.missing_before(packet)]


@pytest.mark.parametrize("profile", ["baseline", "high", "high444"])
@pytest.mark.parametrize("bframes", [0, 3])
def test_a_whole_stream_misses_nothing(profile: str, bframes: int) -> None:
    if profile == "baseline" and bframes:
        pytest.skip("the baseline profile has no B frames")
    stream, _ = packets(profile, bframes)
    assert len(stream) == 40
    assert missing(stream) == []


@pytest.mark.parametrize("profile", ["baseline", "high", "high444"])
@pytest.mark.parametrize("lost", [1, 2, 5])
def test_lost_reference_frames_are_noticed(profile: str, lost: int) -> None:
    stream, _ = packets(profile)
    assert missing(stream[:7] + stream[7 + lost :]) == [7]


def test_a_lost_end_before_a_key_frame_harms_nothing() -> None:
    stream, _ = packets()
    assert missing(stream[:15] + stream[20:]) == []


def test_packets_with_lengths_are_read_with_the_parameters_of_the_file() -> None:
    stream, extradata = packets(length_bytes=4)
    assert extradata[0] == 1, "an avcC record"
    assert missing(stream, extradata) == []
    assert missing(stream[:7] + stream[8:], extradata) == [7]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_data_is_taken(extradata: bytes, packet: bytes) -> None:
    numbers = FrameNumbers(extradata)
    for data in (packet, b"\0\0\1" + packet, b"\0\0\1\x67" + packet, b"\0\0\1\x65" + packet, packet):
        numbers.missing_before(data)
