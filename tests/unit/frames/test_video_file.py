from __future__ import annotations

import logging
import os
import struct
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from moving_pictures import level, sound_that_goes_on, write_video

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.stream import VideoFileSource
from edge_classifierd.preprocess import View

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.frames.base import Frame

LEVELS = [40, 80, 120, 160, 200] * 4


def source(path: Path, *, paced: bool = False, loop: bool = False) -> VideoFileSource:
    made = VideoFileSource(path, paced=paced, loop=loop, clock=SystemClock())
    made.open()
    return made


def frames(made: VideoFileSource, most: int = 10_000) -> list[Frame]:
    found: list[Frame] = []
    while len(found) < most and (frame := made.read()) is not None:
        found.append(frame)
    return found


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.avi", "mjpeg"), ("a.mkv", "libx264")])
def test_every_frame_of_a_file_comes_in_order(tmp_path: Path, name: str, codec: str) -> None:
    made = source(write_video(tmp_path / name, LEVELS, codec=codec))
    assert not made.live
    found = frames(made)
    assert [round(level(frame.picture) / 40) * 40 for frame in found] == LEVELS
    assert [frame.sequence for frame in found] == list(range(20))
    assert {frame.name for frame in found} == {name}
    made.close()
    made.close()


def test_a_looped_file_begins_again(tmp_path: Path) -> None:
    made = source(write_video(tmp_path / "a.mp4", [40, 120, 200]), loop=True)
    assert [round(level(frame.picture) / 40) * 40 for frame in frames(made, 8)] == [40, 120, 200, 40, 120, 200, 40, 120]


def test_a_paced_file_is_live_and_takes_its_own_time(tmp_path: Path) -> None:
    made = source(write_video(tmp_path / "a.mp4", LEVELS[:10], fps=20), paced=True)
    assert made.live
    began = time.monotonic()
    assert len(frames(made)) == 10
    assert 0.44 <= time.monotonic() - began < 2.0


def test_a_looped_file_of_one_frame_does_not_spin(tmp_path: Path) -> None:
    made = source(write_video(tmp_path / "a.mp4", [100], fps=20), paced=True, loop=True)
    began = time.monotonic()
    assert len(frames(made, 5)) == 5
    assert time.monotonic() - began >= 0.19


def test_waiting_for_a_frames_time_is_marked_and_can_be_cancelled(tmp_path: Path) -> None:
    made = source(write_video(tmp_path / "a.mp4", [10, 20], fps=Fraction(1, 60)), paced=True, loop=True)
    made.read()
    seen: list[float] = []
    threading.Timer(0.1, lambda: (seen.append(made.pauses_until_s), made.cancel())).start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="cancelled"):
        made.read()
    assert time.monotonic() - began < 30
    assert 40 < seen[0] - began < 61


@pytest.mark.parametrize(
    "file",
    [("a.mkv", "mpeg4", {}), ("a.avi", "mjpeg", {}), ("a.mp4", "libx264", {"movflags": "faststart"})],
)
def test_a_truncated_file_delivers_what_is_whole_then_ends(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    file: tuple[str, str, dict[str, str]],
) -> None:
    name, codec, options = file
    whole = write_video(tmp_path / name, list(range(1, 101)), codec=codec, noise=True, **options)
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    made = source(cut)
    found = frames(made)
    assert 40 <= len(found) < 75
    assert 1 <= made.skipped < 60
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"cut-{name}: skipped" in caplog.text
    assert capfd.readouterr().err == ""


def test_damage_in_the_middle_is_skipped_with_one_warning_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.avi", list(range(1, 101)), codec="mjpeg", noise=True)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 4, len(data) // 2, len(data) // 40):
        chunk = data.find(b"00dc", at)
        size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
        data[chunk + 8 : chunk + 8 + size] = bytes(size)
    path.write_bytes(data)
    made = source(path)
    delivered = len(frames(made))
    assert 80 <= delivered < 100
    assert made.skipped == 100 - delivered
    assert len(caplog.records) == 1


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 100])
def test_what_is_no_video_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.mp4: (no such file|not a video that can be read|[A-Z].*); check"):
        source(path)


def test_a_pipe_in_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(SourceError, match=r"a\.mp4: not a regular file"):
        source(tmp_path / "a.mp4")


def test_a_folder_in_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a folder, not a video"):
        source(tmp_path)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((1, 0, 0, 1), lambda pixels: pixels),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
        ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
        ((0, -1, 1, 0), np.rot90),
        ((0, 1, 1, 0), lambda pixels: pixels.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2)),
    ],
)
def test_a_video_is_seen_as_its_display_matrix_says(
    tmp_path: Path, matrix: tuple[int, ...], turn: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_video(tmp_path / "a.mp4", [10, 20], codec="libx264", noise=True)
    plain = upright(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44  # of a version 0 box: ISO/IEC 14496-12, 8.3.2
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    np.testing.assert_array_equal(upright(path), turn(plain))


def upright(path: Path) -> np.ndarray:
    """The second picture as people see it."""
    *_, frame = frames(source(path))
    view = View()
    pixels = frame.picture.to_ndarray(format="rgb24")
    return view.upright(pixels, view.quarter_turns(frame.picture))


def test_frames_outlive_their_source(tmp_path: Path) -> None:
    made = source(write_video(tmp_path / "a.mp4", LEVELS))
    found = frames(made)
    made.close()
    del made
    assert [round(level(frame.picture) / 40) * 40 for frame in found] == LEVELS


def test_a_looped_damaged_file_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = write_video(tmp_path / "a.avi", list(range(1, 11)), codec="mjpeg", noise=True)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    made = source(whole, loop=True)
    frames(made, 20)
    assert made.skipped >= 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_sound_beside_the_pictures_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(sound_that_goes_on(pictures=10, seconds=2))
    made = source(tmp_path / "a.ts")
    assert len(frames(made)) == 10
    assert made.skipped == 0


def damaged(path: Path, first: int, last: int, of: int) -> Path:
    """A video of so many frames, each a packet of nothing but zeros from `first` to before `last`."""
    write_video(path, [7] * of, codec="mjpeg")
    data = bytearray(path.read_bytes())
    at = data.find(b"movi")
    for number in range(of):
        at = data.find(b"00dc", at)
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if first <= number < last:
            data[at + 8 : at + 8 + size] = bytes(size)
        at += 8 + size
    path.write_bytes(data)
    return path


def test_what_comes_after_much_damage_is_delivered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = source(damaged(tmp_path / "a.avi", 20, 680, of=700))
    assert len(frames(made)) == 40
    assert made.skipped == 660
    assert len(caplog.records) == 1


def test_a_file_of_nothing_but_damage_is_one_sentence(tmp_path: Path) -> None:
    made = source(damaged(tmp_path / "a.avi", 0, 700, of=700))
    with pytest.raises(SourceError, match=r"a\.avi: none of its frames can be decoded; check that the file is"):
        made.read()


def test_reading_through_damage_can_be_cancelled(tmp_path: Path) -> None:
    made = source(damaged(tmp_path / "a.avi", 0, 700, of=700))
    made.cancel()
    with pytest.raises(SourceError, match="reading was cancelled"):
        made.read()
    assert made.skipped < 100
