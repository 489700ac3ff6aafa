"""The index and the files beside it: failures of the disk, several users at a time, and who owns the files."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
from teaching_scene import SetClock, add, frame, photo

from edge_classifierd.teaching import database
from edge_classifierd.teaching.records import TeachingError
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path


def files(tmp_path: Path) -> set[str]:
    return {path.stem for path in (tmp_path / "taught/birds/pictures").iterdir()}


def test_a_disk_that_is_full_costs_the_picture_only(
    store: TeachingStore, robin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = add(store, robin, 1)

    def full(path: Path, _content: bytes, **_options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(database, "replace_file", full)
        with pytest.raises(TeachingError, match="No space left on device; check the disk"):
            add(store, robin, 2)
    assert files(tmp_path) == set(kept)
    assert [one.id for one in store.pictures("birds", robin)] == kept
    add(store, robin, 2)


def test_threads_and_stores_work_at_the_same_time(
    store: TeachingStore, robin: str, tmp_path: Path, clock: SetClock
) -> None:
    other = TeachingStore(tmp_path, clock)
    failures: list[BaseException] = []

    def use(used: TeachingStore, start: int) -> None:
        try:
            for number in range(start, start + 15):
                assert used.add_picture("birds", class_id=robin, picture=frame(number), source="camera").kept
                found = used.pictures("birds", robin)
                assert used.model("birds").classes[1].pictures >= len(found) > 0
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=use, args=(used, 100 * number)) for number, used in
               enumerate((store, store, other, other))]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {one.id for one in store.pictures("birds", robin)} == files(tmp_path)
    assert len(files(tmp_path)) == 60


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
def test_what_root_makes_belongs_to_the_owner_of_the_state_directory(tmp_path: Path, clock: SetClock) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 23456)
    store = TeachingStore(state, clock)
    store.create("birds")
    store.add_picture("birds", class_id=None, picture=photo(1), source="upload")
    (tmp_path / "birds.zip").write_bytes(b"".join(store.export("birds")))
    store.import_(tmp_path / "birds.zip", "again")
    made = list((state / "taught").rglob("*"))
    assert {"index.sqlite", "index.sqlite-wal", "again", "birds"} <= {path.name for path in made}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 23456)}
