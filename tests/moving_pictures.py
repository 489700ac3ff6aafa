"""Small real pictures and videos for tests, encoded by PyAV: each frame has one grey level, so that it can be told."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 160, 120


def picture(level: int, *, noise: bool = False) -> av.VideoFrame:
    """An RGB frame of one grey level; with noise, to make its encoding large."""
    pixels = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
    if noise:
        pixels = np.random.default_rng(level).integers(0, 255, pixels.shape, np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def level(frame: av.VideoFrame) -> int:
    """The grey level of a decoded frame."""
    return round(float(frame.to_ndarray(format="gray").mean()))


def encoded(frame: av.VideoFrame, codec: str = "mjpeg", pixel_format: str = "yuvj420p", **options: str) -> bytes:
    """One still picture."""
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = frame.width, frame.height, pixel_format
    context.time_base = Fraction(1, 25)
    context.options = options
    packets = context.encode(frame.reformat(format=pixel_format)) + context.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF orientation, as phones write it."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0])
    body = b"Exif\0\0" + b"II*\0\x08\x00\x00\x00" + b"\x01\x00" + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def write_video(
    path: Path,
    levels: list[int],
    *,
    codec: str = "mpeg4",
    fps: int | Fraction = 25,
    noise: bool = False,
    **options: str,
) -> Path:
    """A video with one frame per grey level."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for value in levels:
            container.mux(stream.encode(picture(value, noise=noise)))
        container.mux(stream.encode(None))
    return path


def h264_access_units(levels: list[int], key_frame_every: int = 5) -> list[list[bytes]]:
    """An H.264 stream as NAL units (without start codes) frame by frame; each key frame carries its parameter sets."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base = Fraction(1, 25)
    parameters = f"repeat-headers=1:keyint={key_frame_every}:scenecut=0"
    context.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": parameters}
    units = []
    for value in levels:
        for packet in context.encode(picture(value).reformat(format="yuv420p")):
            data = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1")
            units.append([nal for nal in data.split(b"\0\0\1") if nal])
    return units


def sound_that_goes_on(pictures: int, seconds: int) -> bytes:
    """An MPEG transport stream of silence, whose video ends after that many pictures."""
    made = io.BytesIO()
    with av.open(made, "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("mp2", rate=48_000)
        assert isinstance(audio, av.AudioStream)
        for number in range(seconds * 25):
            if number < pictures:
                shown = picture(40 + number)
                shown.pts, shown.time_base = number, Fraction(1, 25)
                container.mux(video.encode(shown))
            elif number == pictures:
                container.mux(video.encode(None))
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1920), np.int16), format="s16", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = 48_000, number * 1920, Fraction(1, 48_000)
            container.mux(audio.encode(heard))
        container.mux(audio.encode(None))
    return made.getvalue()
