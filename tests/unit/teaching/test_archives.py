"""Export and import: a complete backup, accepted by `train` and `eval`; what others put into a zip file is bounded."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sqlite3
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moving_pictures import encoded
from teaching_scene import SetClock, add, frame, photo

from edge_classifierd.errors import EdgeClassifierError, UsageError
from edge_classifierd.learning.dataset import read_dataset
from edge_classifierd.teaching import adding
from edge_classifierd.teaching.archives.reader import open_archive
from edge_classifierd.teaching.records import Guess, NameTakenError, StoreFullError, TeachingError
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from collections.abc import Mapping

JPEG = photo(1)


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


def classes(store: TeachingStore, made: Path, name: str = "made") -> list[str]:
    """Import an archive; return the names of its classes but `unknown`."""
    model, sentences = store.import_(made, name)
    assert sentences == ()
    return [one.name for one in model.classes[1:]]


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


@pytest.mark.parametrize(("width", "height"), [(1024, 8), (8, 1058), (2, 820), (16, 1030)])
def test_a_thin_picture_that_an_earlier_version_stored_is_imported_as_it_is(
    store: TeachingStore, tmp_path: Path, width: int, height: int
) -> None:
    thin = encoded(frame(1, side=height, width=width))
    _, refused = store.import_(archive(tmp_path / "thin.zip", {"a/1.jpg": thin}), "thin")
    assert refused == ()
    (picture,) = store.pictures("thin", store.model("thin").classes[1].id)
    assert store.jpeg("thin", picture.id) == thin


def test_the_longest_and_thinnest_pictures_survive_an_export_and_import(
    store: TeachingStore, robin: str, tmp_path: Path
) -> None:
    for number, (width, height) in enumerate([(2000, 32), (37, 2036), (17, 1088), (16, 16)]):
        store.add_picture("birds", class_id=robin, picture=frame(number, side=height, width=width), source="upload")
    before = {store.jpeg("birds", one.id) for one in store.pictures("birds", robin)}
    model, refused = store.import_(exported(store, "birds", tmp_path / "birds.zip"), "again")
    after = {store.jpeg("again", one.id) for one in store.pictures("again", model.classes[1].id)}
    assert (refused, len(before), after) == ((), 4, before)


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


def test_an_export_that_is_zipped_again_as_a_folder_is_the_same(full: TeachingStore, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported(full, "birds", tmp_path / "birds.zip")) as opened:
        files = {f"birds/{name}": opened.read(name) for name in opened.namelist()}
    full.import_(archive(tmp_path / "again.zip", {"birds/": b"", **files}), "again")
    assert sides(full, "again") == sides(full, "birds")
    assert [one.recordings for one in full.model("again").classes] == [1, 2]
    assert full.model("again").pipeline == "garden"


@pytest.mark.parametrize("outer", ["", "pictures/", "Repo-main/data/"])
@pytest.mark.parametrize("inner", ["", "train/"])
def test_outer_folders_are_ignored(store: TeachingStore, tmp_path: Path, outer: str, inner: str) -> None:
    files = {f"{outer}{inner}{name}/0.jpg": JPEG for name in ("cat", "dog")}
    assert classes(store, archive(tmp_path / "made.zip", files)) == ["cat", "dog"]


def test_files_that_are_no_pictures_are_left_out_with_one_sentence(store: TeachingStore, tmp_path: Path) -> None:
    pictures = {"cat/0.jpg": JPEG, "dog/0.jpg": photo(2)}
    others = ("cat/1.MOV", "cat/2.mov", "cat/1.AAE", "README.md", "LICENSE", "cat/index.json")
    of_a_system = ("cat/Desktop.ini", "dog/thumbs.db", "cat/@eaDir/0.jpg/THUMB_M.jpg", "__MACOSX/cat/._0.jpg", ".git/a")
    made = archive(tmp_path / "made.zip", pictures | dict.fromkeys(others + of_a_system, b"x"))
    model, sentences = store.import_(made, "made")
    assert sentences == (f"{made}: left out 6 files that are no pictures (.mov, .aae, .json, .md, no suffix)",)
    assert [one.pictures for one in model.classes] == [0, 1, 1]


def test_only_pictures_count_for_the_size_of_an_archive(tmp_path: Path) -> None:
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "a/1.mov": bytes(100_000), "a/2.mov": b""})
    opened, reader = open_archive(made, most_pictures=1, most_bytes=50_000)
    opened.close()
    assert len(reader.content.pictures) == 1
    for pictures, size in ((0, 50_000), (1, 100)):
        with pytest.raises(UsageError, match="too large"):
            open_archive(made, most_pictures=pictures, most_bytes=size)


def test_backslashes_separate_folders(store: TeachingStore, tmp_path: Path) -> None:
    files = {"pets\\": b"", "pets\\cat\\0.jpg": JPEG, "pets\\dog\\0.jpg": JPEG}
    assert classes(store, archive(tmp_path / "made.zip", files)) == ["cat", "dog"]


@pytest.mark.parametrize("written", ["Tür".encode(), "Tu\u0308r".encode(), "Tür".encode("cp437")])
def test_names_that_are_not_marked_as_utf_8_are_read(store: TeachingStore, tmp_path: Path, written: bytes) -> None:
    placeholder = b"x" * len(written)
    made = archive(tmp_path / "made.zip", {f"{placeholder.decode()}/0.jpg": JPEG, "dog/0.jpg": JPEG})
    made.write_bytes(made.read_bytes().replace(placeholder + b"/", written + b"/"))
    assert classes(store, made) == ["Tür", "dog"]


def test_the_length_of_a_name_is_that_of_its_composed_form(store: TeachingStore, tmp_path: Path) -> None:
    made = archive(tmp_path / "made.zip", {"u\u0308" * 60 + "/0.jpg": JPEG})
    assert classes(store, made) == ["ü" * 60]


def test_an_archive_with_a_comment_or_a_large_form_is_read(store: TeachingStore, tmp_path: Path) -> None:
    made = archive(tmp_path / "made.zip", {"cat/0.jpg": JPEG, "dog/0.jpg": JPEG})
    plain = made.read_bytes()
    comment = b"deadbeef" * 8191
    made.write_bytes(plain[:-2] + struct.pack("<H", len(comment)) + comment)
    assert classes(store, made) == ["cat", "dog"]
    made.write_bytes(plain[:-22] + zip64_end(plain))
    assert classes(store, made, "large") == ["cat", "dog"]


@pytest.mark.parametrize("file", ["train/a/1.jpg", "index.json"])
def test_an_unusual_compression_is_refused(store: TeachingStore, tmp_path: Path, file: str) -> None:
    made = tmp_path / "made.zip"
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr("train/b/1.jpg", JPEG)
        opened.writestr(file, JPEG, zipfile.ZIP_LZMA)
    with pytest.raises(UsageError, match=f"`{file}` is encrypted or unusually compressed"):
        store.import_(made, "made")


def test_foreign_bytes_are_encoded_anew(store: TeachingStore, tmp_path: Path) -> None:
    jpeg = photo(1)
    secret = b"Exif\0\0GPS 52.5 N"
    marked = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(secret) + 2) + secret + jpeg[2:]
    store.import_(archive(tmp_path / "hand.zip", {"a/1.jpg": marked}), "hand")
    (picture,) = store.pictures("hand", store.model("hand").classes[1].id)
    content = store.jpeg("hand", picture.id)
    assert content is not None
    assert b"GPS" not in content


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no pictures"),
        ({"a.jpg": JPEG}, "is in no class"),
        ({"train/a.jpg": JPEG, "train/a/1.jpg": JPEG}, "is in no class"),
        ({"train/a/b/c.jpg": JPEG}, "is in no class"),
        ({"../a/1.jpg": JPEG}, "not a plain path .* make the archive again"),
        ({"/etc/a/1.jpg": JPEG}, "not a plain path"),
        ({"a/../../1.jpg": JPEG}, "not a plain path"),
        ({"..\\a\\1.jpg": JPEG}, "not a plain path"),
        ({"\\\\nas\\a\\1.jpg": JPEG}, "not a plain path"),
        ({"C:\\a\\1.jpg": JPEG}, "not a plain path"),
        ({"a/" * 500 + "1.jpg": JPEG}, "too long a path; make the archive again"),
        ({"a/1.jpg": JPEG, "a\\1.jpg": JPEG}, "`a/1.jpg` is in the archive twice; make the archive again"),
        ({"Tür/1.jpg": JPEG, "Tu\u0308r/1.jpg": JPEG}, "in the archive twice"),
        ({"ds/cat/0.jpg": JPEG, "ds/dog/0.jpg": JPEG, "ds/cover.jpg": JPEG}, "`ds/cover.jpg` is in no class"),
        (
            {"x.jpg": JPEG, "x.jpg/a/0.jpg": JPEG, "x.jpg/a/b/0.jpg": JPEG, "x.jpg/b/b/0.jpg": JPEG},
            "`x.jpg` is in no class",
        ),
        ({"train/a/1.jpg": JPEG, "valid/a/1.jpg": JPEG}, "`valid/a/1.jpg` .* rename the folder `valid` to `held-out`"),
        ({"a*/1.jpg": JPEG}, "made.zip: .* none of the characters .* rename the folder"),
        ({"cat/0.jpg": JPEG, "cat/1.jpg": JPEG, "cat/more/0.jpg": JPEG}, "`cat/more/0.jpg` is in no class"),
        ({f"{'x' * 61}/1.jpg": JPEG}, "is too long; rename the folder to at most 60 characters"),
        ({"a/1.jpg": JPEG, "A/1.jpg": JPEG}, "differ only in case"),
        ({"coffee mug/1.jpg": JPEG, "coffee_mug/1.jpg": JPEG}, "or in `_` and spaces"),
        ({"a/1.mp4": b"x", "a/2.MP4": b"x"}, r"holds no pictures, but 2 files that are no pictures \(.mp4\)"),
        ({"a/1.jpg": bytes(25_000_001)}, "larger than 25 MB"),
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
    with pytest.raises(UsageError, match="in the archive twice"):
        store.import_(made, "made")


@pytest.mark.parametrize("damage", ["cut", "trailing", "comment with an end record", "no zip", "flipped"])
def test_a_damaged_archive_is_refused_in_a_sentence(store: TeachingStore, tmp_path: Path, damage: str) -> None:
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "b/1.jpg": JPEG})
    content = bytearray(made.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "trailing":
        content += b"\r\n"
    elif damage == "comment with an end record":
        hidden = content[-22:] + b"x"
        content[-2:] = struct.pack("<H", len(hidden))
        content += hidden
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
    elif kind.startswith("zip64"):
        moved = 1 if kind == "zip64 elsewhere" else 0
        content[-22:] = zip64_end(content, directory_bytes=1_000_000_000, moved=moved)
    elif kind == "large directory":
        content[-10:-6] = struct.pack("<I", 1_000_000_000)
    return bytes(content)


def zip64_end(content: bytes, *, directory_bytes: int | None = None, moved: int = 0) -> bytes:
    """Return the end of an archive in the form for large ones, which some programs write for small ones."""
    end = content[-22:]
    count, size, offset = struct.unpack("<HII", end[10:20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, directory_bytes or size, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(content) - 22 + moved, 1)
    return record + locator + end[:8] + b"\xff" * 12 + b"\0\0"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("one large file", "larger than 25 MB"),
        ("false size", "damaged"),
        ("zip64", "too many files"),
        ("zip64 elsewhere", "no complete zip archive"),
        ("large directory", "too many files"),
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
        with pytest.raises(EdgeClassifierError, match=sentence):
            store.import_(made, "bomb")
        assert tracemalloc.get_traced_memory()[1] < 60_000_000  # less than decoding a picture may take
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


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (
            {"classes": [{"name": "../../evil", "slug": "evil"}]},
            "the class `evil`: ../../evil: a class's name has none",
        ),
        ({"classes": [{"name": "\ud800", "slug": "s"}]}, "the class `s`"),
        ({"classes": [{"name": "x" * 61, "slug": "long"}]}, "the class `long`"),
        ({"classes": [{"name": " A", "slug": "x"}]}, "two classes have the same name"),
        ({"pictures": [{"file": "a/1.jpg", "guess": {"label": "b\udfff", "confidence": 1}}]}, "`a/1.jpg`: the guess"),
    ],
)
def test_a_name_in_the_index_that_no_class_can_have_is_refused(
    store: TeachingStore, tmp_path: Path, index: dict[str, Any], sentence: str
) -> None:
    whole = {"format": "edge-classifierd taught pictures", "version": 1, **index}
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "index.json": json.dumps(whole).encode()})
    with pytest.raises(UsageError, match=re.escape(sentence)) as refused:
        store.import_(made, "made")
    assert str(refused.value).startswith(f"{made}: index.json: ")
    assert [one.name for one in store.models()] == ["birds"]


def test_names_in_the_index_are_taken_in_their_normal_form(store: TeachingStore, tmp_path: Path) -> None:
    classes = [{"name": "Ba\u0308r ", "slug": "bear"}, {"name": "Unknown ", "slug": "unknown-2"}]
    whole = {"format": "edge-classifierd taught pictures", "version": 1, "classes": classes}
    made = archive(tmp_path / "made.zip", {"B\u00e4r/1.jpg": JPEG, "index.json": json.dumps(whole).encode()})
    model, _ = store.import_(made, "made")
    assert [(one.slug, one.name, one.pictures) for one in model.classes] == [
        ("unknown", "unknown", 0),
        ("bear", "B\u00e4r", 1),
    ]


def test_a_large_picture_is_read_and_one_that_is_too_large_is_left_out(store: TeachingStore, tmp_path: Path) -> None:
    large = photo(1) + bytes(9_000_000)
    made = archive(tmp_path / "made.zip", {"a/1.jpg": large, "a/2.jpg": photo(2) + bytes(25_000_000), "a/3.jpg": JPEG})
    model, refused = store.import_(made, "made")
    assert model.classes[1].pictures == 2
    assert [one.partition("made.zip: ")[2] for one in refused] == ["a/2.jpg: larger than 25 MB; scale it down"]


def test_a_class_whose_pictures_were_all_left_out_is_there_without_pictures(
    store: TeachingStore, tmp_path: Path
) -> None:
    model, refused = store.import_(archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "b/1.heic": b"no"}), "made")
    assert [(one.name, one.pictures) for one in model.classes] == [("unknown", 0), ("a", 1), ("b", 0)]
    assert len(refused) == 1


def test_a_pipe_is_refused_without_waiting_for_it(store: TeachingStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(UsageError, match="not a regular file; save the zip archive"):
        store.import_(tmp_path / "pipe.zip", "made")
    reading, writing = os.pipe()
    try:
        with pytest.raises(UsageError, match="not a regular file"):
            store.import_(Path(f"/dev/fd/{reading}"), "made")
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("moment", ["folder", "picture"])
def test_an_import_that_cannot_write_is_refused_in_a_sentence_and_leaves_nothing(
    store: TeachingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    made = archive(tmp_path / "made.zip", {"a/1.jpg": JPEG, "a/2.jpg": photo(2)})

    def fail(path: Path) -> None:
        if (path.suffix == ".jpg") == (moment == "picture"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(store._database, "own", fail)
        with pytest.raises(TeachingError, match="taught: No space left on device; check the disk"):
            store.import_(made, "made")
    assert left_behind(tmp_path) == []
    assert [one.name for one in store.models()] == ["birds"]
    store.import_(made, "made")


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


def test_an_export_writes_nothing_when_the_sides_are_decided(
    full: TeachingStore, robin: str, tmp_path: Path, clock: SetClock
) -> None:
    exported(full, "birds", tmp_path / "first.zip")
    with sqlite3.connect(tmp_path / "taught/index.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")  # a write would wait for it in vain
        exported(TeachingStore(tmp_path, clock), "birds", tmp_path / "second.zip")
    other.close()
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    add(full, robin, 70)
    exported(full, "birds", tmp_path / "third.zip")
    with sqlite3.connect(tmp_path / "taught/index.sqlite") as other:
        undecided = "SELECT count(*) FROM pictures WHERE held_out IS NULL AND class IS NOT NULL AND binned_ms IS NULL"
        assert other.execute(undecided).fetchone() == (0,)
    other.close()


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
