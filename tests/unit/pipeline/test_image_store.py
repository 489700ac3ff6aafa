from __future__ import annotations

import os
import resource
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.pipeline.image_store import ImageStore

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_the_oldest_are_removed_for_the_newest(tmp_path: Path) -> None:
    album = ImageStore(tmp_path / "a", max_files=3, max_bytes=1000)
    for number in range(5):
        assert album.add(f"day/{number}", b"x") is not None
    assert names(tmp_path / "a") == ["2.jpg", "3.jpg", "4.jpg"]


def test_bytes_are_bounded_too_and_what_never_fits_is_not_kept(tmp_path: Path) -> None:
    album = ImageStore(tmp_path, max_files=100, max_bytes=1000)
    for number in range(5):
        album.add(str(number), b"x" * 300)
    assert names(tmp_path) == ["2.jpg", "3.jpg", "4.jpg"]
    assert album.add("huge", b"x" * 1001) is None
    assert names(tmp_path) == ["2.jpg", "3.jpg", "4.jpg"]


def test_pictures_of_an_earlier_run_count_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for number in range(4):
        (tmp_path / f"old{number}.jpg").write_bytes(b"x")
        os.utime(tmp_path / f"old{number}.jpg", (number, number))
    ImageStore(tmp_path, max_files=3, max_bytes=1000).add("new", b"x")
    assert names(tmp_path) == ["new.jpg", "notes.txt", "old2.jpg", "old3.jpg"]


def test_a_folder_that_cannot_be_written_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").write_text("in the way")
    album = ImageStore(tmp_path / "file" / "album", max_files=3, max_bytes=1000)
    assert album.add("1", b"x") is None
    assert album.add("2", b"x") is None
    assert len(caplog.records) == 1
    (tmp_path / "file").unlink()
    assert album.add("3", b"x") is not None
    assert "again" in caplog.text
    album.add("4", b"x")
    assert caplog.text.count("again") == 1
    shutil.rmtree(tmp_path / "file")
    (tmp_path / "file").write_text("in the way")
    assert album.add("5", b"x") is None
    assert caplog.text.count("cannot store pictures") == 2


def test_a_nearly_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: _Usage)
    assert ImageStore(tmp_path, max_files=3, max_bytes=1000).add("1", b"x") is None
    assert names(tmp_path) == []


class _Usage:
    total, used, free = 100_000_000_000, 99_990_000_000, 10_000_000


def test_a_day_without_pictures_leaves_no_folder(tmp_path: Path) -> None:
    album = ImageStore(tmp_path / "a", max_files=2, max_bytes=1000)
    for name in ("day1/1", "day1/2", "day2/1"):
        album.add(name, b"x")
    assert sorted(folder.name for folder in (tmp_path / "a").iterdir()) == ["day1", "day2"]
    album.add("day2/2", b"x")
    assert [folder.name for folder in (tmp_path / "a").iterdir()] == ["day2"]
    album.add("day3/1", b"x")
    (tmp_path / "a" / "day2" / "mine.txt").write_text("stays")
    album.add("day3/2", b"x")
    assert names(tmp_path / "a") == ["1.jpg", "2.jpg", "mine.txt"]


def test_the_folder_of_the_store_stays(tmp_path: Path) -> None:
    album = ImageStore(tmp_path / "a", max_files=1, max_bytes=1000)
    album.add("1", b"x")
    (tmp_path / "a").chmod(0o711)
    album.add("2", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o711


def test_a_picture_that_could_not_be_written_whole_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    album = ImageStore(tmp_path, max_files=3, max_bytes=1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, before[1]))  # the third byte fails as on a full disk
    try:
        added = [album.add(str(number), b"xyz") for number in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert added == [None] * 3
    assert names(tmp_path) == []
    assert "File too large" in caplog.text


def test_a_picture_that_cannot_be_removed_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = ImageStore(tmp_path, max_files=2, max_bytes=1000)
    album.add("1", b"x")
    album.add("2", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", refuse)
        assert album.add("3", b"x") is None
        assert album.add("3", b"x") is None
    assert album.add("3", b"x") is not None
    assert names(tmp_path) == ["2.jpg", "3.jpg"]


def test_pictures_may_be_deleted_by_others(tmp_path: Path) -> None:
    album = ImageStore(tmp_path, max_files=2, max_bytes=1000)
    album.add("1", b"x")
    album.add("2", b"x")
    (tmp_path / "1.jpg").unlink()
    assert album.add("3", b"x") is not None
    assert names(tmp_path) == ["2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("free", "total", "kept"),
    [
        (99_000_000, 1_900_000_000, True),  # little, but more than 5 %
        (99_000_000, 2_000_000_000, False),
        (101_000_000, 100_000_000_000, True),  # under 5 %, but enough
    ],
)
def test_nearly_full_means_little_both_in_bytes_and_in_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, total: int, kept: bool
) -> None:
    class Usage:
        pass

    usage = Usage()
    usage.free, usage.total = free, total  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage)
    assert (ImageStore(tmp_path / "a" / "b", max_files=3, max_bytes=1000).add("1", b"x") is not None) is kept


def test_a_store_may_be_exactly_full(tmp_path: Path) -> None:
    assert ImageStore(tmp_path, max_files=0, max_bytes=1000).add("1", b"x") is None
    album = ImageStore(tmp_path, max_files=9, max_bytes=10)
    album.add("1", b"x" * 5)
    album.add("2", b"x" * 5)
    assert names(tmp_path) == ["1.jpg", "2.jpg"]
    assert album.add("3", b"x" * 10) is not None
    assert names(tmp_path) == ["3.jpg"]


def test_pictures_in_folders_of_an_earlier_run_count_by_their_bytes_too(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "old.jpg").write_bytes(b"x" * 600)
    ImageStore(tmp_path, max_files=9, max_bytes=1000).add("new", b"x" * 500)
    assert names(tmp_path) == ["new.jpg"]


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_group_may_read_the_pictures_and_others_may_not_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(0o711)
    before = os.umask(umask)
    try:
        picture = ImageStore(tmp_path / "collected" / "door", max_files=3, max_bytes=1000).add("cat/1", b"x")
    finally:
        os.umask(before)
    assert picture is not None
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (picture, *picture.parents)]
    assert modes[:5] == [0o640, 0o750, 0o750, 0o750, 0o711], "what was there before keeps its mode"
