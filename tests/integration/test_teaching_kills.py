"""A process that uses the store is killed at random moments: pictures and index always agree, nothing kept is lost."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import sqlite3
from typing import TYPE_CHECKING

from teaching_worker import NAMES, noise, work

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 50


def rows(state: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(state / "taught/index.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {one for (one,) in connection.execute("SELECT pictures.id FROM pictures JOIN models ON models.id = model"
                                                     " WHERE name != 'passing'")}  # fmt: skip


def killed(state: Path, seed: int, dice: random.Random) -> tuple[set[str], set[str]]:
    """Run a worker, kill it, and return the pictures that it was promised and those that it wanted to remove."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["edge_classifierd.teaching.store"])
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(state, seed, theirs))
    worker.start()
    theirs.close()
    added: set[str] = set()
    binned: set[str] = set()
    left = dice.randint(1, 8)
    with contextlib.suppress(EOFError):
        while True:
            if left == 0:
                ours.poll(dice.random() * 0.02)
                worker.kill()
            left -= 1
            what, pictures = ours.recv()
            (added if what == "added" else binned).update(pictures)
    worker.join()
    assert worker.exitcode == -9
    return added, binned


def test_pictures_and_index_agree_after_every_kill(tmp_path: Path) -> None:
    store = TeachingStore(tmp_path, SystemClock())
    store.create(NAMES[0])
    robin = store.add_class(NAMES[0], "robin").id
    for number in range(10):
        store.add_picture(NAMES[0], class_id=robin, picture=noise(number), source="upload")
    (tmp_path / "pictures.zip").write_bytes(b"".join(store.export(NAMES[0])))
    store.close()
    dice = random.Random(23)
    kept: set[str] = set()
    sides: dict[str, bool] = {}
    for number in range(1, KILLS + 1):
        added, binned = killed(tmp_path, number, dice)
        kept = (kept | added) - binned
        before = rows(tmp_path)
        store = TeachingStore(tmp_path, SystemClock())
        for name in {one.name for one in store.models()} - set(NAMES):
            store.delete(name)
        (model,) = store.models()
        store.set_pipeline(model.name, None)  # the first write repairs
        folder = tmp_path / "taught" / model.name / "pictures"
        assert {path.name for path in folder.iterdir()} == {f"{one}.jpg" for one in before}
        assert rows(tmp_path) == before
        assert kept <= before
        assert {path.name for path in (tmp_path / "taught").iterdir() if path.is_dir()} == {model.name}
        for one in sorted(before)[-20:]:
            read_image(folder / f"{one}.jpg")
            assert store.jpeg(model.name, one, thumb=True) is not None
        with contextlib.suppress(UsageError):
            for taught in store.training_set(model.name).classes:
                for held, own in ((False, taught.learn), (True, taught.held_out)):
                    assert all(sides.setdefault(one.id, held) == held for one in own)
        store.close()
    assert len(sides) > 2 * KILLS
