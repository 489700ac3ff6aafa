"""Export and import: a complete backup, accepted by `train` and `eval`; what others put into a zip file is bounded."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from moving_pictures import encoded
from teaching_scene import SetClock, add, frame, photo

from edge_classifierd.errors import EdgeClassifierError, UsageError
from edge_classifierd.learning.dataset import read_dataset
from edge_classifierd.teaching import adding
from edge_classifierd.teaching.records import Guess, NameTakenError, StoreFullError
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def exported(store: TeachingStore, name: str, path: Path) -> Path:
    path.write_bytes(b"".join(store.export(name)))
    return path


def archive(path: Path, files: Mapping[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def sides(store: TeachingStore, name: str) -> dict[str, tuple[int, int, bool]]:
    return {one.name: (len(one.learn), len(one.held_out), one.estimate) for one in store.training_set(name).classes}


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "taught").iterdir() if path.is_dir())


@pytest.fixture
def full(store: TeachingStore, robin: str, clock: SetClock) -> TeachingStore:
    """A model with two recordings of a class, one of another, and pictures without a class."""
    add(store, robin, *range(12))
    clock.passed_s += 100
    add(store, robin, *range(12, 23))
    unknown = store.model("birds").classes[0].id
    add(store, unknown, *range(30, 40))
    store.add_picture(
        "birds", class_id=None, picture=photo(50), source="collected", captured=clock.utc(), guess=Guess("wren", 0.25)
    )
    store.move("birds", add(store, robin, 60), "bin")
    return store


def test_an_export_that_is_imported_again_is_the_same_to_the_byte(full: TeachingStore, tmp_path: Path) -> None:
    renamed = full.model("birds").classes[1]
    full.rename_class("birds", renamed.id, "Rotkehlchen")
    first = exported(full, "birds", tmp_path / "birds.zip")
    model, refused = full.import_(first, "again")
    assert refused == ()
    assert [(one.slug, one.name, one.pictures, one.recordings) for one in model.classes] == [
        ("unknown", "unknown", 10, 1),
        ("robin", "Rotkehlchen", 23, 2),
    ]
    assert (model.pipeline, model.to_sort, model.bin) == ("garden", 1, 0)
    assert sides(full, "again") == sides(full, "birds") == {"unknown": (8, 2, True), "Rotkehlchen": (12, 11, False)}
    (to_sort,) = full.pictures("again", "to_sort")
    (original,) = full.pictures("birds", "to_sort")
    assert (to_sort.guess, to_sort.captured, to_sort.source) == (original.guess, original.captured, original.source)
    assert full.jpeg("again", to_sort.id) == full.jpeg("birds", original.id)
    assert left_behind(tmp_path) == ["again", "birds"]


def test_the_folders_of_an_export_are_data_sets(full: TeachingStore, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported(full, "birds", tmp_path / "birds.zip")) as opened:
        assert opened.testzip() is None
        opened.extractall(tmp_path / "out")
    train, held = read_dataset(tmp_path / "out/train"), read_dataset(tmp_path / "out/held-out")
    assert set(train.classes) == set(held.classes) == {"robin", "unknown"}
    assert (len(train.pictures), len(held.pictures)) == (20, 13)


def test_folders_made_by_hand_are_imported(store: TeachingStore, tmp_path: Path) -> None:
    files = {f"birds/{name}/{number}.jpg": photo(number) for name in ("Wren", "robin") for number in range(6)}
    extra = {"birds/.DS_Store": b"x", "__MACOSX/birds/._0.jpg": b"x", "birds/robin/bad.png": b"no picture"}
    made = archive(tmp_path / "hand.zip", files | extra, compression=zipfile.ZIP_DEFLATED)
    model, refused = store.import_(made, "hand")
    assert [(one.slug, one.pictures) for one in model.classes] == [("unknown", 0), ("wren", 6), ("robin", 6)]
    assert len(refused) == 1
    assert "birds/robin/bad.png: not a JPEG" in refused[0]
    assert sides(store, "hand") == {"Wren": (5, 1, True), "robin": (5, 1, True)}


def test_held_out_folders_stay_held_out(store: TeachingStore, tmp_path: Path) -> None:
    numbers = {"train": range(10), "held-out": range(20, 32)}
    files = {
        f"{side}/{name}/{number}.jpg": photo(number) for side in numbers for name in "ab" for number in numbers[side]
    }
    store.import_(archive(tmp_path / "hand.zip", files), "hand")
    assert sides(store, "hand") == {"a": (10, 12, False), "b": (10, 12, False)}


def test_foreign_bytes_are_encoded_anew(store: TeachingStore, tmp_path: Path) -> None:
    jpeg = photo(1)
    secret = b"Exif\0\0GPS 52.5 N"
    marked = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(secret) + 2) + secret + jpeg[2:]
    store.import_(archive(tmp_path / "hand.zip", {"a/1.jpg": marked}), "hand")
    (picture,) = store.pictures("hand", store.model("hand").classes[1].id)
    content = store.jpeg("hand", picture.id)
    assert content is not None
    assert b"GPS" not in content


JPEG = photo(1)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no pictures"),
        ({"a.jpg": JPEG}, "is in no class"),
        ({"train/a.jpg": JPEG, "train/a/1.jpg": JPEG}, "is in no class"),
        ({"train/a/b/c.jpg": JPEG}, "is in no class"),
        ({"../a/1.jpg": JPEG}, "only plain file names"),
        ({"/etc/a/1.jpg": JPEG}, "only plain file names"),
        ({"a/../../1.jpg": JPEG}, "only plain file names"),
        ({"a\\b/1.jpg": JPEG}, "only plain file names"),
        ({"a*/1.jpg": JPEG}, "none of the characters"),
        ({f"{'x' * 61}/1.jpg": JPEG}, "is in no class"),
        ({"a/1.jpg": JPEG, "A/1.jpg": JPEG}, "differ in case only"),
        ({"a/1.jpg": JPEG, "a/run.sh": b"#!/bin/sh"}, "is no picture"),
        ({"a/1.jpg": bytes(8_000_001)}, "more than 8 MB"),
        ({"a/1.jpg": JPEG, "index.json": b"[" * 100_000}, "index.json is damaged"),
        ({"a/1.jpg": JPEG, "index.json": b"{}"}, "not one that this version wrote"),
        ({"a/1.jpg": JPEG, "index.json": bytes(4_000_001)}, "more than 4 MB"),
        ({"a/1.jpg": encoded(frame(1, side=12))}, "12x12 pixels are too small"),
        ({"a/1.jpg": b"no picture"}, "a/1.jpg: not a JPEG"),
        ({f"c{number}/1.jpg": JPEG for number in range(50)}, "at most 50 classes"),
    ],
)
def test_an_archive_that_is_not_accepted_is_refused_in_a_sentence(
    store: TeachingStore, tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    made = archive(tmp_path / "made.zip", files)
    with pytest.raises(EdgeClassifierError, match=sentence) as refused:
        store.import_(made, "made")
    assert "\n" not in str(refused.value)
    assert [one.name for one in store.models()] == ["birds"]
    assert left_behind(tmp_path) in ([], ["birds"])


def test_a_name_that_occurs_twice_is_refused(store: TeachingStore, tmp_path: Path) -> None:
    made = tmp_path / "made.zip"
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr("a/1.jpg", JPEG)
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr("a/1.jpg", JPEG)
    with pytest.raises(UsageError, match="occur once"):
        store.import_(made, "made")


@pytest.mark.parametrize("damage", ["cut", "comment", "no zip", "flipped"])
def test_a_damaged_archive_is_refused_in_a_sentence(store: TeachingStore, tmp_path: Path, damage: str) -> None:
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "b/1.jpg": JPEG})
    content = bytearray(made.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "comment":
        content[-2:] = b"\1\0"
        content += b"x"
    elif damage == "no zip":
        content = bytearray(b"hello")
    else:
        content[60] ^= 1  # inside the first picture: its checksum does not match
    made.write_bytes(content)
    with pytest.raises(UsageError, match=r"zip archive|damaged"):
        store.import_(made, "made")
    with pytest.raises(UsageError, match="No such file"):
        store.import_(tmp_path / "none.zip", "made")


def bomb(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "many files":
        with zipfile.ZipFile(buffer, "w") as made:
            for number in range(40_000):
                made.writestr(f"a/{number}.jpg", b"")
        return buffer.getvalue()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/1.jpg", bytes(100_000_000))
    content = bytearray(buffer.getvalue())
    if kind == "false size":  # the directory claims 100 bytes
        at = content.rindex(b"PK\1\2")
        content[at + 24 : at + 28] = struct.pack("<I", 100)
    elif kind == "zip64":
        locator = b"PK\6\7" + bytes(16)
        content[-22:-22] = locator
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("one large file", "more than 8 MB"),
        ("false size", "damaged"),
        ("zip64", "too many files"),
        ("many files", "too many|too large"),
    ],
)
def test_a_bomb_is_refused_before_memory_is_taken(
    store: TeachingStore, tmp_path: Path, kind: str, sentence: str
) -> None:
    made = tmp_path / "bomb.zip"
    made.write_bytes(bomb(kind))
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=sentence):
            store.import_(made, "bomb")
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "index",
    [
        {"pictures": 5, "classes": None, "pipeline": 7},
        {"pictures": [5, {"file": []}, {"file": "a/1.jpg", "guess": {"label": "x", "confidence": 1e999}}]},
        {"pictures": [{"file": "a/1.jpg", "captured": "9999-12-31T23:59:59-23:59", "recording": {"x": [1]}}]},
        {"classes": [{"name": "a", "slug": "../x"}, {"name": [], "slug": "y"}], "pipeline": "../x"},
    ],
)
def test_an_index_with_wrong_values_is_ignored_where_it_is_wrong(
    store: TeachingStore, tmp_path: Path, index: dict[str, Any]
) -> None:
    whole = {"format": "edge-classifierd taught pictures", "version": 1, **index}
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "index.json": json.dumps(whole).encode()})
    model, _ = store.import_(made, "made")
    assert [(one.slug, one.pictures) for one in model.classes] == [("unknown", 0), ("a", 1)]
    assert model.pipeline is None
    (picture,) = store.pictures("made", model.classes[1].id)
    assert picture.guess is None


def test_an_import_into_a_taken_name_or_a_full_store_is_refused(
    full: TeachingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(full, "birds", tmp_path / "birds.zip")
    with pytest.raises(NameTakenError):
        full.import_(made, "birds")
    monkeypatch.setattr(adding, "MOST_PICTURES", 40)
    with pytest.raises(StoreFullError):
        full.import_(made, "again")
    assert left_behind(tmp_path) == ["birds"]


def test_the_folder_of_an_import_is_removed_unless_it_runs(
    full: TeachingStore, tmp_path: Path, clock: SetClock
) -> None:
    made = exported(full, "birds", tmp_path / "birds.zip")
    (tmp_path / "taught/.import-OLD/pictures").mkdir(parents=True)

    def another(_what: str, done: int, _of: int) -> None:
        if done == 3:
            TeachingStore(tmp_path, clock).create("other")  # its first write removes what is left behind

    model, _ = full.import_(made, "again", another)
    assert model.to_sort == 1
    assert left_behind(tmp_path) == ["again", "birds"]


def test_an_import_that_ends_before_its_folder_is_renamed_is_completed(
    full: TeachingStore, tmp_path: Path, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exported(full, "birds", tmp_path / "birds.zip")
    monkeypatch.setattr(TeachingStore, "_finish_folders", lambda _self: None)
    full.import_(made, "again")
    assert left_behind(tmp_path)[0].startswith(".import-")
    full.close()
    again = TeachingStore(tmp_path, clock)
    again.create("other")
    assert left_behind(tmp_path) == ["again", "birds"]
    (picture,) = again.pictures("again", "to_sort")
    assert again.jpeg("again", picture.id) is not None


def test_a_picture_removed_during_an_export_is_left_out(full: TeachingStore, robin: str, tmp_path: Path) -> None:
    parts = full.export("birds")
    content = next(parts)
    gone = [one.id for one in full.pictures("birds", robin)]
    full.move("birds", gone, "bin")
    full.empty_bin("birds")
    (tmp_path / "birds.zip").write_bytes(content + b"".join(parts))
    model, _ = full.import_(tmp_path / "birds.zip", "again")
    assert sum(one.pictures for one in model.classes) < 33


def test_the_memory_of_an_import_does_not_grow_with_its_pictures(store: TeachingStore, tmp_path: Path) -> None:
    """Only thumbnails and hashes are kept: a picture is decoded and written before the next is read."""
    from edge_classifierd.teaching.ingest import encode

    large = encode(frame(1, side=1000)).jpeg
    files = {f"a/{number}.jpg": large for number in range(40)}
    made = archive(tmp_path / "made.zip", files)
    tracemalloc.start()
    try:
        store.import_(made, "made")
        assert tracemalloc.get_traced_memory()[1] < 10 * len(large)
    finally:
        tracemalloc.stop()
    assert [path.name for path in (tmp_path / "taught/made").iterdir()] == ["pictures"]
