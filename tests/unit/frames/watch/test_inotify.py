"""The kernel's reports say which files are being written and which are complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_classifierd.frames.watch.inotify import Inotify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    inotify = Inotify()
    inotify.open()
    yield inotify
    inotify.close()


def test_a_file_is_complete_when_it_is_closed_or_moved_to_its_place(tmp_path: Path, inotify: Inotify) -> None:
    (tmp_path / "b").mkdir()
    inotify.watch([tmp_path, tmp_path / "b"])
    assert not inotify.wait(0)
    first, second = tmp_path / "1.jpg", tmp_path / "b/2.jpg"
    with first.open("wb") as file:
        file.write(b"x")
        file.flush()
        assert inotify.wait(60)
        assert (inotify.writing, inotify.complete) == ({first}, set())
    assert inotify.wait(60)
    assert (inotify.writing, inotify.complete) == (set(), {first})
    first.rename(second)
    (tmp_path / "link.jpg").hardlink_to(second)
    assert inotify.wait(60)
    assert (inotify.writing, inotify.complete) == (set(), {first, second})
    inotify.keep_only({second})
    with second.open("ab") as file:
        file.write(b"x")
        file.flush()
        assert inotify.update()
        assert (inotify.writing, inotify.complete) == ({second}, set())


def test_a_folder_is_watched_under_its_present_name(tmp_path: Path, inotify: Inotify) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    inotify.watch([folder])
    folder.rename(tmp_path / "b")
    folder.mkdir()
    inotify.watch([folder, tmp_path / "b"])
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert inotify.update()
    assert inotify.complete == {folder / "1.jpg", tmp_path / "b/1.jpg"}
    inotify.watch([folder])
    (tmp_path / "b/2.jpg").write_bytes(b"x")
    inotify.update()
    assert tmp_path / "b/2.jpg" not in inotify.complete


def test_nothing_is_known_after_reports_were_lost(tmp_path: Path, inotify: Inotify) -> None:
    inotify.watch([tmp_path])
    (tmp_path / "done.jpg").write_bytes(b"x")
    with (tmp_path / "1.jpg").open("wb", buffering=0) as one, (tmp_path / "2.jpg").open("wb", buffering=0) as two:
        for _ in range(2**15):  # twice the queue; like reports in succession count once
            one.write(b"x")
            two.write(b"x")
        assert inotify.update()
    assert (inotify.writing, inotify.complete) == (set(), set())
