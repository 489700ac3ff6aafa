from __future__ import annotations

import os
from typing import TYPE_CHECKING

from edge_classifierd.daemon import album as album_module
from edge_classifierd.daemon.album import Album

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_the_oldest_make_room_for_the_newest(tmp_path: Path) -> None:
    album = Album(tmp_path / "a", max_files=3, max_bytes=1000)
    for number in range(5):
        assert album.add(f"day/{number}", b"x") is not None
    assert names(tmp_path / "a") == ["2.jpg", "3.jpg", "4.jpg"]


def test_bytes_are_bounded_too_and_what_never_fits_is_not_kept(tmp_path: Path) -> None:
    album = Album(tmp_path, max_files=100, max_bytes=1000)
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
    Album(tmp_path, max_files=3, max_bytes=1000).add("new", b"x")
    assert names(tmp_path) == ["new.jpg", "notes.txt", "old2.jpg", "old3.jpg"]


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").write_text("in the way")
    album = Album(tmp_path / "file" / "album", max_files=3, max_bytes=1000)
    assert album.add("1", b"x") is None
    assert album.add("2", b"x") is None
    assert len(caplog.records) == 1
    (tmp_path / "file").unlink()
    assert album.add("3", b"x") is not None
    assert "again" in caplog.text


def test_a_nearly_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(album_module.shutil, "disk_usage", lambda _place: _Usage)
    assert Album(tmp_path, max_files=3, max_bytes=1000).add("1", b"x") is None
    assert names(tmp_path) == []


class _Usage:
    total, used, free = 100_000_000_000, 99_990_000_000, 10_000_000
