"""Frames that are damaged, or depend on a damaged or missing one, are never delivered."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from edge_classifierd.errors import SourceError
from edge_classifierd.frames.video import InputSettings, Video

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, HEIGHT, FRAMES = 160, 120, 60


def scene(number: int) -> av.VideoFrame:
    """A pattern that moves, so that each frame depends on the one before."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH + FRAMES * 3))
    grey = (100 + 50 * np.sin((x + 5 * number) / 9) * np.cos((y + 3 * number) / 7)).astype(np.int16)
    grey = np.clip(grey + noise[:, 3 * number : 3 * number + WIDTH], 0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, 2), format="rgb24").reformat(format="yuv420p")


def units(codec: str, more: str = "cabac=0", *, reordered: bool = False) -> list[bytes]:
    """The packets of a stream with a key frame every 15 frames; `reordered`: with B-frames.

    Of the damage inside a slice a decoder notices nearly all with CABAC, all without it, and little of it in HEVC.
    """
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
    name, more = ("x264-params", more) if codec == "libx264" else ("x265-params", "log-level=none")
    context.options = {"preset": "fast", name: f"repeat-headers=1:keyint=15:scenecut=0:{more}"}
    if not reordered:
        context.options = {"tune": "zerolatency", **context.options}
    made = []
    for number in range(FRAMES):
        frame = scene(number)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        made += [bytes(packet) for packet in context.encode(frame)]
    return made + [bytes(packet) for packet in context.encode(None)]


def delivered(path: Path, data: list[bytes], *, live: bool) -> tuple[list[np.ndarray], int]:
    path.write_bytes(b"".join(data))
    video = Video(str(path), InputSettings(live=live), shown=path.name)
    found = []
    while (frame := video.read()) is not None:
        found.append(frame.to_ndarray(format="gray").astype(int))
    skipped = video.skipped
    video.close()
    return found, skipped


def whole(data: bytes, _chance: random.Random) -> bytes:
    return b"" if data else data


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: int(len(data) * chance.uniform(0.3, 0.9))]


def hole(data: bytes, chance: random.Random) -> bytes:
    """Leave out a part in the middle of the last slice, as if an RTP packet were lost."""
    first = data.rindex(b"\0\0\1") + 12
    size = max(1, (len(data) - first) // 3)
    start = chance.randrange(first, max(first + 1, len(data) - size))
    return data[:start] + data[start + size :]


def one_slice(data: bytes, _chance: random.Random) -> bytes:
    return data[: data.rindex(b"\0\0\1")]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("codec", "suffix", "lose"),
    [
        ("libx264", "h264", whole),
        ("libx264", "h264", cut),
        ("libx264", "h264", hole),
        ("libx264", "h264", one_slice),
        ("libx265", "hevc", whole),
    ],
)
def test_a_video_with_losses_shows_only_frames_of_the_clean_video(
    tmp_path: Path, codec: str, suffix: str, lose: Callable[[bytes, random.Random], bytes], live: bool
) -> None:
    packets = units(codec)
    clean, skipped = delivered(tmp_path / f"clean.{suffix}", packets, live=live)
    assert (len(clean), skipped) == (FRAMES, 0)
    for seed in range(8):
        chance = random.Random(seed)
        hit = set(chance.sample(range(1, FRAMES), 3))
        damaged = [lose(data, chance) if number in hit else data for number, data in enumerate(packets)]
        found, skipped = delivered(tmp_path / f"damaged.{suffix}", damaged, live=live)
        assert skipped > 0 or len(found) == FRAMES - 3 + sum(number % 15 == 0 for number in hit)
        assert len(found) < FRAMES
        for frame in found:
            assert min(np.abs(frame - one).mean() for one in clean) < 0.5


@pytest.mark.parametrize("lose", [cut, hole, whole])
@pytest.mark.parametrize("live", [False, True])
def test_frames_shown_before_a_damaged_one_that_they_depend_on_are_skipped(
    tmp_path: Path, lose: Callable[[bytes, random.Random], bytes], live: bool
) -> None:
    packets = units("libx264", "cabac=0:bframes=3:b-adapt=0:b-pyramid=0", reordered=True)
    clean, skipped = delivered(tmp_path / "clean.h264", packets, live=live)
    assert (len(clean), skipped) == (FRAMES, 0)
    for number in (1, 4, 5, 17, 33):  # the packets after a key frame: P B B B P ...
        damaged = [lose(data, random.Random(7)) if at == number else data for at, data in enumerate(packets)]
        found, skipped = delivered(tmp_path / "damaged.h264", damaged, live=live)
        assert FRAMES - 16 <= len(found) <= FRAMES - (lose is not hole)  # a hole in a small frame may do no harm
        for frame in found:
            assert min(np.abs(frame - one).mean() for one in clean) < 0.5, number


def test_frames_of_a_stream_are_delivered_without_delay(tmp_path: Path) -> None:
    """A held frame would make the events of a camera late."""
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(units("libx264", "slices=1")))
    video = Video(str(path), InputSettings(live=True), shown="a.h264")
    for number in range(1, 30):
        assert video.read() is not None
        assert video._packets_read == number
    video.close()


def test_what_comes_before_the_first_key_frame_of_a_camera_is_skipped_and_counted(tmp_path: Path) -> None:
    packets = units("libx264")
    clean, _ = delivered(tmp_path / "clean.h264", packets, live=True)
    parameters = packets[0][: packets[0].rindex(b"\0\0\1\x65")]
    found, skipped = delivered(tmp_path / "late.h264", [parameters, *packets[4:]], live=True)
    assert len(found) == FRAMES - 15
    assert skipped >= 10
    assert np.abs(found[0] - clean[15]).mean() < 0.5


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("kind", "b_frames", "counted"),
    [
        ("mpeg4 mp4", 0, True),
        ("mpeg4 avi", 0, True),
        ("mpeg4 m4v", 2, True),
        ("h263p avi", 0, True),  # all its packets are marked as key frames
        ("msmpeg4 avi", 0, True),
        ("flv flv", 0, True),
        ("mpeg2video ts", 2, False),  # the decoder of files leaves them out itself
    ],
)
def test_what_comes_before_the_first_key_frame_is_skipped_with_every_codec(
    tmp_path: Path, kind: str, b_frames: int, counted: bool, live: bool
) -> None:
    codec, suffix = kind.split()
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "15", "bf": str(b_frames), "qmax": "3"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            container.mux(stream.encode(scene(number)))
        container.mux(stream.encode(None))
    with av.open(str(whole)) as source, av.open(str(cut), "w") as container:
        out = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            if number >= 6:
                packet.stream = out
                container.mux(packet)
    asked = []
    shown = {}
    for path in (whole, cut):
        video = Video(str(path), InputSettings(live=live), shown=path.name, on_skip=lambda: asked.append(1))
        shown[path] = []
        while (frame := video.read()) is not None:
            shown[path].append(frame.to_ndarray(format="gray").astype(int))
        if path == whole:
            assert (video.skipped, asked) == (0, [])
        skipped = video.skipped
        video.close()
    assert len(shown[whole]) == FRAMES
    assert len(shown[cut]) in range(FRAMES - 15 - b_frames, FRAMES - 14)
    assert asked
    if counted or live:
        assert skipped >= 9 - b_frames
    for frame in shown[cut]:
        assert min(np.abs(frame - one).mean() for one in shown[whole]) < 0.5


@pytest.mark.parametrize(
    ("codec", "options", "lost", "at_least"),
    [
        # An open GOP: frames that are shown before a key frame, but sent after it, depend on the damaged frames too.
        ("libx265", {"x265-params": "keyint=15:min-keyint=15:bframes=3:log-level=none"}, range(6), FRAMES - 16),
        ("libx265", {"x265-params": "keyint=15:min-keyint=15:bframes=3:log-level=none"}, range(18, 21), FRAMES - 18),
    ],
)
def test_little_more_than_what_depends_on_missing_frames_is_skipped(
    tmp_path: Path, codec: str, options: dict[str, str], lost: range, at_least: int
) -> None:
    path = tmp_path / "a.mkv"
    shown: list[list[np.ndarray]] = []
    for left_out in (range(0), lost):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            packets = [packet for number in range(FRAMES) for packet in stream.encode(scene(number))]
            for number, packet in enumerate(packets + stream.encode(None)):
                if number not in left_out:
                    container.mux(packet)
        video = Video(str(path), InputSettings(), shown="a.mkv")
        frames = iter(video.read, None)
        shown.append([frame.to_ndarray(format="gray").astype(int) for frame in frames if frame is not None])
        assert (video.skipped > 0) == bool(left_out)
        video.close()
    assert len(shown[0]) == FRAMES
    assert at_least <= len(shown[1]) < FRAMES - len(lost)
    for frame in shown[1]:
        assert min(np.abs(frame - one).mean() for one in shown[0]) < 0.5


def test_frames_whose_type_the_decoder_does_not_know_are_delivered(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flashsv", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr24"
        for number in range(5):
            container.mux(stream.encode(scene(number).reformat(format="bgr24")))
        container.mux(stream.encode(None))
    video = Video(str(path), InputSettings(), shown="a.avi")
    assert [video.read() is not None for _ in range(6)] == [True] * 5 + [False]
    assert video.skipped == 0
    video.close()


@pytest.mark.parametrize(
    ("ratio", "size"), [((2, 1), (320, 120)), ((1, 2), (160, 240)), ((12, 11), (174, 120)), ((1, 1), (160, 120))]
)
def test_pixels_that_are_not_square_are_shown_in_the_scenes_proportions(
    tmp_path: Path, ratio: tuple[int, int], size: tuple[int, int]
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)
        for number in range(3):
            container.mux(stream.encode(scene(number)))
        container.mux(stream.encode(None))
    video = Video(str(path), InputSettings(), shown="a.mp4")
    frame = video.read()
    assert frame is not None
    assert (frame.width, frame.height) == size
    assert frame.format.name == "yuv420p"
    video.close()


def test_the_containers_ratio_of_the_pixels_is_preferred_and_belongs_to_the_picture_before_its_rotation(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(1, 1)
        stream.set_display_rotation(-90)
        container.mux(stream.encode(scene(0)))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    square = struct.pack(">4s2I", b"pasp", 1, 1)
    assert data.count(square) == 1
    path.write_bytes(data.replace(square, struct.pack(">4s2I", b"pasp", 2, 1)))  # as `ffmpeg -aspect -c copy` does
    video = Video(str(path), InputSettings(), shown="a.mp4")
    frame = video.read()
    assert frame is not None
    assert (frame.width, frame.height, frame.rotation) == (2 * WIDTH, HEIGHT, -90)
    video.close()


def test_a_video_of_huge_pictures_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "huge.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 5000, 4000, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(5000, 4000, "yuv420p")))
        container.mux(stream.encode(None))

    def look() -> None:
        video = Video(str(path), InputSettings(), shown="huge.avi")
        try:
            video.read()
        finally:
            video.close()

    with pytest.raises(SourceError, match=r"^huge\.avi: .*at most 14 megapixels are supported: set .*$"):
        look()
