"""The pictures of stored events are bounded and leave with their events."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity
from edge_classifierd.pipeline import event_pictures
from edge_classifierd.pipeline.event_pictures import EventPictures

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENT = datetime(2026, 11, 21, 22, 26, 11, tzinfo=UTC)
DRAFT = EventDraft(
    type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8, top=(),
    time=MOMENT, clock_synchronised=True, model=ModelIdentity("m", "0" * 64, "r", "cpu"), inference_ms=5.0,
)  # fmt: skip


class Scene:
    """An outbox that keeps three sent events, and the pictures beside it."""

    now_s = 100.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = self.open()
        self.pictures = self.open_pictures()

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return MOMENT

    def synchronised(self) -> bool:
        return True

    def open(self) -> Outbox:
        return Outbox(self.folder / "outbox.sqlite3", topic=lambda _: "t", clock=self, keep_sent=3)

    def open_pictures(self, most: int = 3) -> EventPictures:
        return EventPictures(self.folder / "pictures", self.folder / "outbox.sqlite3", self, most=most)

    def detect(self, jpeg: bytes = b"jpeg") -> str:
        (event,) = self.outbox.append([DRAFT])
        self.pictures.add([event.event_id], jpeg)
        return event.event_id

    def prune(self) -> list[str]:
        self.now_s += 61
        self.pictures.tick()
        assert self.pictures.ids() == {file.stem for file in (self.folder / "pictures").glob("*.jpg")}
        return sorted(self.pictures.ids())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.outbox.close()


def test_a_picture_leaves_with_its_event(scene: Scene) -> None:
    ids = [scene.detect(f"jpeg {number}".encode()) for number in range(3)]
    assert scene.pictures.read(ids[0]) == b"jpeg 0"
    scene.outbox.acknowledge([1, 2, 3])
    assert scene.prune() == ids
    scene.outbox.append([DRAFT, DRAFT])  # without pictures
    scene.outbox.acknowledge([4, 5])
    assert scene.prune() == ids[2:]
    assert scene.pictures.read(ids[0]) is None


def test_the_events_of_one_frame_have_the_same_picture(scene: Scene) -> None:
    ids = [event.event_id for event in scene.outbox.append([DRAFT, DRAFT])]
    scene.pictures.add(ids, b"same")
    assert [scene.pictures.read(one) for one in ids] == [b"same", b"same"]


def test_pictures_are_bounded_by_number_and_size(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [scene.detect() for _ in range(5)]
    assert sorted(scene.pictures.ids()) == ids[2:]
    monkeypatch.setattr(event_pictures, "MOST_BYTES", 10)
    scene.pictures = scene.open_pictures()
    last = scene.detect(b"7 bytes")
    assert scene.pictures.ids() == {last}


def test_a_start_removes_pictures_without_an_event_and_unfinished_ones(scene: Scene) -> None:
    kept = scene.detect()
    folder = scene.folder / "pictures"
    (folder / "00000000000000000000000000.jpg").write_bytes(b"of an event that is gone")
    (folder / f".{'7' * 26}.jpg.new").write_bytes(b"written by a process that was killed")
    scene.pictures = scene.open_pictures()
    assert scene.prune() == [kept]
    assert [file.name for file in folder.iterdir()] == [f"{kept}.jpg"]


def test_none_are_stored_and_old_ones_are_removed_when_no_events_are_kept(scene: Scene) -> None:
    scene.detect()
    scene.pictures = scene.open_pictures(most=0)
    scene.detect()
    assert scene.prune() == []


def test_pictures_stay_while_the_database_cannot_be_read(scene: Scene) -> None:
    kept = scene.detect()
    scene.outbox.close()
    (scene.folder / "outbox.sqlite3").write_bytes(b"damaged " * 1000)
    assert scene.prune() == [kept]


@pytest.mark.parametrize("name", ["", "../outbox.sqlite3", "secret", "/etc/passwd", "\0", "a" * 26, "7" * 27])
def test_only_an_identifier_is_looked_up(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.detect()
    (scene.folder / "pictures" / "secret.jpg").write_bytes(b"secret")
    monkeypatch.setattr(Path, "read_bytes", lambda _: sys.exit("read"))
    assert scene.pictures.read(name) is None
