from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from frame_fakes import ManualClock
from moving_pictures import encoded, level, picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.folder import FolderSource, images_in

if TYPE_CHECKING:
    from pathlib import Path


def put(folder: Path, name: str, grey: int = 100) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(grey)))
    return path


def source(folder: Path, *, fps: float | None = None, loop: bool = False, recursive: bool = False) -> FolderSource:
    made = FolderSource(folder, fps=fps, loop=loop, recursive=recursive, clock=SystemClock())
    made.open()
    return made


def names(made: FolderSource, most: int = 100) -> list[str | None]:
    found = []
    while len(found) < most and (frame := made.read()) is not None:
        found.append(frame.name)
    return found


def test_pictures_come_in_natural_order_and_nothing_else_does(tmp_path: Path) -> None:
    for name in ("img10.jpg", "img2.JPG", "img1.jpeg", "Alpha.jpg", ".hidden.jpg", "notes.txt", "img.gif.part"):
        put(tmp_path, name)
    (tmp_path / "below.jpg").mkdir()
    put(tmp_path, "below.jpg/img3.jpg")
    assert [path.name for path in images_in(tmp_path) if path.is_file()] == [
        "Alpha.jpg", "img1.jpeg", "img2.JPG", "img10.jpg"
    ]  # fmt: skip
    assert [str(path.relative_to(tmp_path)) for path in images_in(tmp_path, recursive=True)] == [
        "Alpha.jpg", "below.jpg/img3.jpg", "img1.jpeg", "img2.JPG", "img10.jpg"
    ]  # fmt: skip


def test_a_finite_folder_ends_after_its_last_picture(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        put(tmp_path, f"{number}.jpg", number * 20)
    made = source(tmp_path)
    assert not made.live
    frames = [made.read() for _ in range(4)]
    assert frames[3] is None
    assert [(frame.name, frame.sequence, level(frame.picture)) for frame in frames[:3] if frame] == [
        ("1.jpg", 0, 20), ("2.jpg", 1, 40), ("10.jpg", 2, 200)
    ]  # fmt: skip


def test_damaged_pictures_are_skipped_with_one_warning_each_and_counted_every_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "1.jpg")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").write_bytes(put(tmp_path, "4.jpg").read_bytes()[:300])
    made = source(tmp_path, loop=True)
    assert names(made, 6) == ["1.jpg", "4.jpg"] * 3
    assert made.skipped == 6
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "2.jpg: the file is empty" in caplog.text
    assert "3.jpg: the JPEG data is damaged" in caplog.text
    assert capfd.readouterr().err == ""  # FFmpeg's own words stay inside


def test_a_picture_that_was_repaired_is_warned_of_again_when_it_is_damaged_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "1.jpg")
    picture_2 = put(tmp_path, "2.jpg")
    sound = picture_2.read_bytes()
    made = source(tmp_path, loop=True)
    for content in (b"", sound, b""):
        picture_2.write_bytes(content)
        names(made, 3)
    assert len(caplog.records) == 2


def test_hidden_folders_are_left_out_with_all_they_hold(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg")
    put(tmp_path, ".thumbnails/2.jpg")
    assert [path.name for path in images_in(tmp_path, recursive=True)] == ["1.jpg"]


def test_a_folder_of_damaged_pictures_fails_instead_of_spinning(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no")
    made = source(tmp_path, loop=True)
    with pytest.raises(SourceError, match="none of its pictures can be decoded"):
        made.read()


def test_files_may_come_and_go_between_passes(tmp_path: Path) -> None:
    first, _second = put(tmp_path, "1.jpg"), put(tmp_path, "2.jpg")
    made = source(tmp_path, loop=True)
    assert names(made, 2) == ["1.jpg", "2.jpg"]
    put(tmp_path, "3.jpg")
    assert names(made, 2) == ["1.jpg", "2.jpg"]
    first.unlink()
    (tmp_path / "2.jpg").unlink()
    assert names(made, 2) == ["3.jpg", "3.jpg"]
    put(tmp_path, "4.jpg")
    assert names(made, 2) == ["3.jpg", "4.jpg"]
    put(tmp_path, "5.jpg")
    assert names(made, 1) == ["3.jpg"]
    (tmp_path / "4.jpg").unlink()  # listed already
    assert names(made, 2) == ["5.jpg", "3.jpg"]
    assert made.skipped == 0


@pytest.mark.parametrize("kind", ["empty", "missing", "file"])
def test_a_folder_without_pictures_is_one_sentence(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "pictures"
    if kind == "empty":
        folder.mkdir()
        assert images_in(folder) == ()
    elif kind == "file":
        folder.write_text("x")
    with pytest.raises(SourceError, match=r"pictures: (holds no pictures|no such folder|not a folder).*; "):
        source(folder)


def test_the_rate_is_kept_and_a_wait_is_marked_and_can_be_cancelled(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    made = source(tmp_path, fps=20, loop=True)
    began = time.monotonic()
    names(made, 5)
    assert 0.19 <= time.monotonic() - began < 5

    slow = source(tmp_path, fps=0.01, loop=True)
    slow.read()
    seen: list[float] = []
    threading.Timer(0.2, lambda: (seen.append(slow.pauses_until_s), slow.cancel())).start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="cancelled"):
        slow.read()
    assert time.monotonic() - began < 2
    assert 99 < seen[0] - began < 101
    assert slow.pauses_until_s <= time.monotonic(), "the wait that was cancelled excuses nothing any more"


def test_a_picture_is_read_just_before_its_time(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg", 40)
    made = source(tmp_path, fps=1, loop=True)
    first = made.read()
    assert first is not None
    threading.Timer(0.1, lambda: put(tmp_path, "1.jpg", 200)).start()
    second = made.read()
    assert second is not None
    assert level(second.picture) == pytest.approx(200, abs=5)
    assert second.captured_s - first.captured_s == pytest.approx(1.0, abs=0.5)


def test_a_damaged_picture_takes_no_turn_of_its_own(tmp_path: Path) -> None:
    for name in ("1.jpg", "5.jpg"):
        put(tmp_path, name)
    for name in ("2.jpg", "3.jpg", "4.jpg"):
        (tmp_path / name).write_bytes(b"damaged")
        os.utime(tmp_path / name, (0, 0))
    made = source(tmp_path, fps=0.5)
    began_s = time.monotonic()
    assert names(made) == ["1.jpg", "5.jpg"]
    assert 1.5 < time.monotonic() - began_s < 5


def test_frames_carry_the_clock_they_were_given(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    clock = ManualClock()
    made = FolderSource(tmp_path, fps=None, loop=False, clock=clock)
    made.open()
    frame = made.read()
    assert frame is not None
    assert (frame.captured_s, frame.captured_at) == (clock.now_s, clock.utc())


def test_a_share_that_goes_away_in_a_pass_is_an_error_and_the_rest_comes_when_it_is_back(tmp_path: Path) -> None:
    for number in range(1, 6):
        put(tmp_path / "share", f"{number}.jpg")
    made = source(tmp_path / "share")
    assert names(made, 2) == ["1.jpg", "2.jpg"]
    (tmp_path / "share").rename(tmp_path / "gone")
    with pytest.raises(SourceError, match="share: no such folder"):
        made.read()
    made.close()
    (tmp_path / "share").mkdir()  # the place where it is mounted
    with pytest.raises(SourceError, match="share: holds no pictures"):
        made.open()
    (tmp_path / "share").rmdir()
    (tmp_path / "gone").rename(tmp_path / "share")
    made.open()
    assert names(made) == ["3.jpg", "4.jpg", "5.jpg"]
    assert made.skipped == 0


def test_a_picture_that_is_still_being_written_is_tried_again(tmp_path: Path) -> None:
    whole = put(tmp_path, "1.jpg").read_bytes()
    put(tmp_path, "3.jpg")
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    made = source(tmp_path)
    threading.Timer(0.4, (tmp_path / "2.jpg").write_bytes, [whole]).start()
    assert names(made) == ["1.jpg", "3.jpg", "2.jpg"]
    assert made.skipped == 0


def test_pictures_of_phones_and_browsers_are_found_by_their_endings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "1.jfif")
    (tmp_path / "2.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    os.utime(tmp_path / "2.HEIC", (1, 1))
    assert names(source(tmp_path)) == ["1.jfif"]
    assert "2.HEIC: HEIC pictures cannot be read here; convert it to JPEG" in caplog.text
