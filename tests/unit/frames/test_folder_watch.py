"""A watched folder delivers each new picture once, when it is complete."""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
from moving_pictures import encoded, level, picture

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import SourceError
from edge_classifierd.frames import folder_watch
from edge_classifierd.frames.folder_watch import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_classifierd.frames.base import Frame


@pytest.fixture(autouse=True, params=["inotify", "polling"])
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "_POLL_S": 0.2,
        "_SETTLED_S": 0.1,
        "_GIVE_UP_S": 0.6,
        "_DELETE_AFTER_S": 0.2,
        "_STEP_S": 0.05,
    }.items():
        monkeypatch.setattr(folder_watch, name, value)
    if request.param == "polling":
        monkeypatch.setattr(folder_watch._Notifier, "broken", True)


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

    def __init__(self, source: FolderWatch) -> None:
        self.source = source
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
        deadline_s = time.monotonic() + 5
        while sorted(name or "" for name in self.names) != sorted(names):
            assert time.monotonic() < deadline_s, self.names
            time.sleep(0.01)

    def _run(self) -> None:
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
