"""A watched folder delivers each new picture once, when it is complete."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from moving_pictures import encoded, level, picture
from PIL import Image

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.watch import folder_watch
from edge_classifierd.frames.watch.folder_watch import FolderWatch
from edge_classifierd.frames.watch.inotify import Inotify
from edge_classifierd.frames.watch.known_pictures import DonePictures, Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.frames.base import Frame


@pytest.fixture(autouse=True, params=["inotify", "polling"])
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "_POLL_S": 0.2,
        "_SETTLED_S": 0.1,
        "_OVERWRITTEN_S": 0.5,
        "_GIVE_UP_S": 0.6,
        "_DELETE_AFTER_S": 0.2,
        "_STEP_S": 0.05,
    }.items():
        monkeypatch.setattr(folder_watch, name, value)
    if request.param == "polling":
        monkeypatch.setattr(Inotify, "broken", True)
    return str(request.param)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def start(*, recursive: bool = True, delete: bool = False) -> Reader:
        source = FolderWatch(tmp_path / "in", recursive=recursive, delete=delete, clock=SystemClock())
        readers.append(Reader(source))
        return readers[-1]

    (tmp_path / "in").mkdir()
    yield start
    for reader in readers:
        reader.stop()


class Reader:
    """Reads a source in a thread, as a capture does."""

    def __init__(self, source: FolderWatch, *, as_nobody: bool = False) -> None:
        self.source = source
        self._as_nobody = as_nobody
        self.frames: list[Frame] = []
        self.error: SourceError | None = None
        source.open()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @property
    def names(self) -> list[str | None]:
        return [frame.name for frame in self.frames]

    def stop(self) -> None:
        self.source.cancel()
        self.thread.join(5)
        self.source.close()

    def until(self, names: list[str]) -> None:
        deadline_s = time.monotonic() + 60
        while sorted(name or "" for name in self.names) != sorted(names):
            assert time.monotonic() < deadline_s, self.names
            time.sleep(0.01)

    def _run(self) -> None:
        if self._as_nobody and os.geteuid() == 0:
            ctypes.CDLL(None).setfsuid(65_534)  # root may read everything; of this thread only
        try:
            while True:
                self.frames.append(self.source.read())
        except SourceError as error:
            self.error = error


def old(path: Path, grey: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(grey)))
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    return path


def test_new_pictures_come_once_and_old_ones_never(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    old(tmp_path / "in/old.jpg")
    reader = watch()
    (tmp_path / "in/new.jpg").write_bytes(encoded(picture(200)))
    reader.until(["new.jpg"])
    assert abs(level(reader.frames[0].picture) - 200) < 5
    (tmp_path / "in/second.jpg").write_bytes(encoded(picture(40)))
    (tmp_path / "in/notes.txt").write_text("x")
    (tmp_path / "in/.part.jpg").write_bytes(encoded(picture(40)))
    reader.until(["new.jpg", "second.jpg"])
    time.sleep(0.6)
    assert reader.names == ["new.jpg", "second.jpg"]
    assert not reader.source.live


def test_a_picture_that_is_overwritten_is_new_again(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    reader = watch()
    for count, grey in enumerate((40, 200), start=1):
        (tmp_path / "in/now.jpg").write_bytes(encoded(picture(grey)))
        reader.until(["now.jpg"] * count)
    assert [round(level(frame.picture) / 40) * 40 for frame in reader.frames] == [40, 200]


def test_dated_folders_are_found(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    reader = watch()
    for day in ("2026/11/28", "2026/11/29"):
        folder = tmp_path / "in" / day
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(encoded(picture(40)))
    reader.until(["2026/11/28/1.jpg", "2026/11/29/1.jpg"])


def test_a_half_written_picture_is_waited_for(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    reader = watch()
    data = encoded(picture(120, noise=True))
    with (tmp_path / "in/slow.jpg").open("wb") as file:
        for at in range(0, len(data), len(data) // 8 + 1):
            file.write(data[at : at + len(data) // 8 + 1])
            file.flush()
            assert reader.names == []
            time.sleep(0.15)
    reader.until(["slow.jpg"])
    assert reader.source.skipped == 0


def test_a_picture_that_stays_damaged_is_skipped_with_one_warning(
    tmp_path: Path, watch: Callable[..., Reader], caplog: pytest.LogCaptureFixture
) -> None:
    reader = watch()
    (tmp_path / "in/bad.jpg").write_bytes(encoded(picture(1))[:300])
    (tmp_path / "in/good.jpg").write_bytes(encoded(picture(200)))
    reader.until(["good.jpg"])
    time.sleep(1.5)
    assert reader.source.skipped == 1
    assert caplog.text.count("bad.jpg: the JPEG data is damaged or incomplete") == 1


def test_pictures_are_deleted_after_use_and_those_from_before_the_start_are_used(
    tmp_path: Path, watch: Callable[..., Reader]
) -> None:
    before, damaged = old(tmp_path / "in/before.jpg"), tmp_path / "in/damaged.jpg"
    damaged.write_bytes(b"no")
    reader = watch(delete=True)
    reader.until(["before.jpg"])
    (tmp_path / "in/new.jpg").write_bytes(encoded(picture(200)))
    reader.until(["before.jpg", "new.jpg"])
    deadline_s = time.monotonic() + 5
    while before.exists() or (tmp_path / "in/new.jpg").exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert damaged.exists()


def test_a_share_that_goes_and_comes_back_repeats_nothing(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    old(tmp_path / "in/old.jpg")
    reader = watch()
    (tmp_path / "in/1.jpg").write_bytes(encoded(picture(40)))
    reader.until(["1.jpg"])
    (tmp_path / "in").rename(tmp_path / "gone")
    reader.thread.join(5)
    assert "no such folder" in str(reader.error)
    with pytest.raises(SourceError, match="in: no such folder; create it"):
        reader.source.open()
    (tmp_path / "in").mkdir()  # the place where it is mounted
    again = Reader(reader.source)
    time.sleep(0.5)
    (tmp_path / "in").rmdir()
    again.thread.join(5)
    (tmp_path / "gone").rename(tmp_path / "in")
    (tmp_path / "in/2.jpg").write_bytes(encoded(picture(40)))
    third = Reader(reader.source)
    third.until(["2.jpg"])
    time.sleep(0.5)
    assert third.names == ["2.jpg"]
    third.stop()


def test_a_folder_that_is_created_later_is_watched_from_its_first_picture(tmp_path: Path) -> None:
    source = FolderWatch(tmp_path / "later", clock=SystemClock())
    with pytest.raises(SourceError, match="later: no such folder"):
        source.open()
    old(tmp_path / "later/old.jpg")
    (tmp_path / "later/new.jpg").write_bytes(encoded(picture(40)))
    reader = Reader(source)
    reader.until(["new.jpg"])
    reader.stop()
    assert time.monotonic() < source.pauses_until_s + 60
    shutil.rmtree(tmp_path / "later")


def test_what_is_there_at_the_start_is_old_also_with_a_wrong_clock(
    tmp_path: Path, watch: Callable[..., Reader]
) -> None:
    future = time.time() + 3600
    os.utime(old(tmp_path / "in/old.jpg"), (future, future))
    reader = watch()
    (tmp_path / "in/new.jpg").write_bytes(encoded(picture(200)))
    reader.until(["new.jpg"])


def test_pictures_that_are_moved_within_the_tree_are_not_repeated(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    old(tmp_path / "in/old.jpg")
    reader = watch()
    (tmp_path / "in/new.jpg").write_bytes(encoded(picture(200)))
    reader.until(["new.jpg"])
    (tmp_path / "in/2024-06-01").mkdir()
    for name in ("old.jpg", "new.jpg"):
        (tmp_path / "in" / name).rename(tmp_path / "in/2024-06-01" / name)
    time.sleep(0.6)
    (tmp_path / "in/last.jpg").write_bytes(encoded(picture(200)))
    reader.until(["new.jpg", "last.jpg"])


def test_a_picture_whose_time_is_set_after_it_was_sent_is_not_repeated(
    tmp_path: Path, watch: Callable[..., Reader], quick: str
) -> None:
    if quick == "polling":
        pytest.skip("needs what the kernel reports")
    reader = watch()
    sent = tmp_path / "in/1.jpg"
    sent.write_bytes(encoded(picture(40)))
    reader.until(["1.jpg"])
    for number in range(3):
        os.utime(sent, (number, number))
        time.sleep(0.3)
    sent.write_bytes(sent.read_bytes())  # the next picture may be as large
    reader.until(["1.jpg", "1.jpg"])


def test_a_subfolder_that_was_away_is_not_repeated(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    old(tmp_path / "in/a/old.jpg")
    old(tmp_path / "in/b/old.jpg")
    reader = watch()
    for number in range(3):
        shutil.copytree(tmp_path / "in/b", tmp_path / "away")  # a share that is mounted again has other inodes
        shutil.rmtree(tmp_path / "in/b")
        old(tmp_path / f"in/a/{number}.jpg")
        reader.until([f"a/{at}.jpg" for at in range(number + 1)])
        time.sleep(0.6)
        (tmp_path / "away").rename(tmp_path / "in/b")
    old(tmp_path / "in/b/new.jpg")
    reader.until(["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/new.jpg"])


def test_old_pictures_of_a_share_that_is_mounted_later_are_left_alone(
    tmp_path: Path, watch: Callable[..., Reader]
) -> None:
    reader = watch()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as share:  # another file system
        old(Path(share) / "old.jpg")
        (Path(share) / "new.jpg").write_bytes(encoded(picture(200)))
        if subprocess.run(["mount", "--bind", share, tmp_path / "in"], capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a folder (root has it)")
        try:
            reader.until(["new.jpg"])
            (tmp_path / "in/last.jpg").write_bytes(encoded(picture(200)))
            reader.until(["new.jpg", "last.jpg"])
        finally:
            subprocess.run(["umount", "--lazy", tmp_path / "in"], check=True)


def test_a_folder_that_goes_while_it_is_opened_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    source = FolderWatch(tmp_path / "in", clock=SystemClock())
    listed = source._list

    def list_and_lose() -> object:
        found = listed()
        (tmp_path / "in").rmdir()
        return found

    monkeypatch.setattr(source, "_list", list_and_lose)
    with pytest.raises(SourceError, match=r"in: cannot be read .*; check the disk or the share"):
        source.open()
    source.close()


def test_pictures_that_are_absent_are_forgotten_in_time() -> None:
    done = DonePictures({}, most_absent=10)
    for day in range(50):
        found = {Path(f"/in/{day}/{at}.jpg"): Stamp(day, at, 1, 100 * day + at) for at in range(5)}
        assert done.update(found, {Path(f"/in/{day}")}, lambda _: True) == found  # all are new
        done.present = found
    assert list(done.absent) == [Path(f"/in/{day}/{at}.jpg") for day in (47, 48) for at in range(5)]
    for _ in range(2):  # deleted one by one
        assert done.update({Path("/in/49/4.jpg"): Stamp(49, 4, 1, 4904)}, {Path("/in/49")}, lambda _: True) == {}
    assert Path("/in/49/0.jpg") not in done.absent


def test_pictures_of_a_burst_that_a_lost_share_interrupts_come_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = FolderWatch(folder, clock=SystemClock())
    source.open()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(40)))
    names = [source.read().name for _ in range(2)]
    folder.rename(tmp_path / "away")
    with pytest.raises(SourceError, match="no such folder"):
        names.extend(frame.name for frame in iter(source.read, None))
    source.close()
    time.sleep(1.0)
    (tmp_path / "away").rename(folder)
    reader = Reader(source)
    reader.until([f"{number}.jpg" for number in range(6) if f"{number}.jpg" not in names])
    assert source.skipped == 0
    reader.stop()


def test_a_picture_that_cannot_be_read_is_tried_until_it_can_be(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as name:  # others may enter it
        folder = Path(name)
        folder.chmod(0o755)
        source = FolderWatch(folder, clock=SystemClock())
        reader = Reader(source, as_nobody=True)
        old(folder / "late.tmp").chmod(0)
        (folder / "late.tmp").rename(folder / "late.jpg")
        time.sleep(1.5)
        assert reader.names == []
        (folder / "late.jpg").chmod(0o644)
        reader.until(["late.jpg"])
        reader.stop()
    assert source.skipped == 0
    assert caplog.text.count("late.jpg: permission denied") == 1


@pytest.mark.parametrize("atomic", [True, False])
def test_a_picture_that_is_overwritten_all_the_time_is_delivered(
    tmp_path: Path, watch: Callable[..., Reader], *, atomic: bool
) -> None:
    reader = watch()
    deadline_s = time.monotonic() + 60
    while len(reader.frames) < 3:
        assert time.monotonic() < deadline_s
        written = tmp_path / "in" / ("next.tmp" if atomic else "latest.jpg")
        written.write_bytes(encoded(picture(120)))
        written.rename(tmp_path / "in/latest.jpg")
        time.sleep(0.03)
    assert {level(frame.picture) for frame in reader.frames} == {level(reader.frames[0].picture)}


def test_a_picture_with_room_for_its_rest_is_waited_for(
    tmp_path: Path, watch: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_watch, "_GIVE_UP_S", 60.0)
    reader = watch()
    noise = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg", progressive=True)
    data = (tmp_path / "whole.jpg").read_bytes()
    with (tmp_path / "in/slow.jpg").open("wb") as file:
        file.truncate(len(data))
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(1.0)
        assert reader.names == []
        file.write(data[len(data) // 2 :])
    reader.until(["slow.jpg"])
    whole = read_image(tmp_path / "whole.jpg").to_ndarray(format="gray")
    assert np.array_equal(reader.frames[0].picture.to_ndarray(format="gray"), whole)


def test_a_jpeg_that_never_gets_its_end_is_used_at_last(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    reader = watch()
    data = encoded(picture(120))
    assert data.endswith(b"\xff\xd9")
    (tmp_path / "in/short.jpg").write_bytes(data[:-2])
    reader.until(["short.jpg"])


def test_a_closed_file_is_used_at_once_and_an_open_one_is_waited_for(
    tmp_path: Path, watch: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch, quick: str
) -> None:
    if quick == "polling":
        pytest.skip("needs what the kernel reports")
    monkeypatch.setattr(folder_watch, "_GIVE_UP_S", 600.0)
    reader = watch()
    with (tmp_path / "in/open.jpg").open("wb") as file:
        file.write(encoded(picture(120)))
        file.flush()
        time.sleep(1.0)
        assert reader.names == []
    reader.until(["open.jpg"])
    monkeypatch.setattr(folder_watch, "_SETTLED_S", 600.0)
    monkeypatch.setattr(folder_watch, "_OVERWRITTEN_S", 600.0)
    (tmp_path / "in/closed.jpg").write_bytes(encoded(picture(120)))
    reader.until(["open.jpg", "closed.jpg"])
    (tmp_path / "in/closed.jpg").rename(tmp_path / "x.jpg")
    old(tmp_path / "y.jpg").rename(tmp_path / "in/moved.jpg")
    reader.until(["open.jpg", "closed.jpg", "moved.jpg"])


def test_a_file_that_is_open_but_not_written_to_any_more_is_used(tmp_path: Path, watch: Callable[..., Reader]) -> None:
    reader = watch()
    with (tmp_path / "in/open.jpg").open("wb") as file:
        file.write(encoded(picture(120)))
        file.flush()
        reader.until(["open.jpg"])
