"""The store of taught models: names, places of pictures, steps, the bin, bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from moving_pictures import encoded
from teaching_scene import SetClock, add, frame, photo

from edge_classifierd.errors import SourceError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.teaching import adding
from edge_classifierd.teaching.records import (
    Guess,
    NameTakenError,
    NotTaughtError,
    StepGoneError,
    StoreFullError,
    TeachingError,
)
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path


def places(store: TeachingStore, *class_ids: str) -> list[int]:
    """The number of pictures in each class, to sort and in the bin."""
    return [len(store.pictures("birds", where)) for where in (*class_ids, "to_sort", "bin")]


def files(tmp_path: Path) -> set[str]:
    return {path.stem for path in (tmp_path / "taught/birds/pictures").iterdir()}


def test_looking_at_a_state_without_models_creates_nothing(tmp_path: Path, clock: SetClock) -> None:
    store = TeachingStore(tmp_path, clock)
    assert store.models() == ()
    with pytest.raises(NotTaughtError, match="birds: there is no taught model"):
        store.pictures("birds", "bin")
    assert list(tmp_path.iterdir()) == []


def test_a_new_model_has_the_class_unknown_and_says_what_is_missing(store: TeachingStore) -> None:
    model = store.model("birds")
    assert [(one.slug, one.unknown, one.pictures) for one in model.classes] == [("unknown", True, 0)]
    assert model.missing.startswith("Record at least 2 classes with 5 pictures each")


@pytest.mark.parametrize("name", ["", "..", "a/b", "Birds", "a" * 33, "x\0"])
def test_a_model_name_that_could_not_be_a_folder_is_refused(store: TeachingStore, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 32 of the characters"):
        store.create(name)
    with pytest.raises(UsageError, match="1 to 32 of the characters"):
        store.rename("birds", name)


@pytest.mark.parametrize(
    "name", ["", "  ", "..", ".hidden", "a/b", "a,b", "gull*", "[x]", "a\nb", "x" * 61, "a\u202eb"]
)
def test_a_class_name_that_could_not_be_a_folder_or_a_label_is_refused(store: TeachingStore, name: str) -> None:
    with pytest.raises(UsageError, match="a class's name has"):
        store.add_class("birds", name)


def test_slugs_are_made_from_names_and_never_change(store: TeachingStore) -> None:
    first = store.add_class("birds", "Blåmes (♂)")
    other = store.add_class("birds", "blames")
    third = store.add_class("birds", "鳥")
    assert (first.slug, other.slug, third.slug) == ("blames", "blames-2", "class")
    store.rename_class("birds", first.id, "Blaumeise")
    renamed = next(one for one in store.model("birds").classes if one.id == first.id)
    assert (renamed.name, renamed.slug) == ("Blaumeise", "blames")


def test_class_names_are_unique_without_case_and_unknown_keeps_its_name(store: TeachingStore, robin: str) -> None:
    with pytest.raises(NameTakenError, match="the model has a class `robin` already"):
        store.add_class("birds", "Robin")
    with pytest.raises(NameTakenError, match="`unknown`"):
        store.add_class("birds", "UNKNOWN")
    with pytest.raises(UsageError, match="keeps its name"):
        store.rename_class("birds", robin, "Unknown")
    store.rename_class("birds", robin, "Robin")


def test_a_picture_nearly_the_same_as_one_of_its_class_is_counted_not_kept(store: TeachingStore, robin: str) -> None:
    kept = add(store, robin, 1)
    again = store.add_picture("birds", class_id=robin, picture=frame(1), source="camera")
    assert (again.kept, again.like) == (False, kept[0])
    add(store, None, 1)  # only pictures of the same class are compared
    assert places(store, robin) == [1, 1, 0]


def test_stored_pictures_are_small_and_without_metadata(store: TeachingStore, robin: str, tmp_path: Path) -> None:
    picture = store.add_picture("birds", class_id=robin, picture=frame(2, side=1500, width=1000), source="camera").id
    assert picture is not None
    stored = read_image(tmp_path / f"taught/birds/pictures/{picture}.jpg")
    assert (stored.width, stored.height) == (682, 1024)
    content = store.jpeg("birds", picture)
    assert content is not None
    assert b"Exif" not in content
    thumbnail = store.jpeg("birds", picture, thumb=True)
    assert thumbnail is not None
    (tmp_path / "thumbnail.jpg").write_bytes(thumbnail)
    assert read_image(tmp_path / "thumbnail.jpg").height == 160


@pytest.mark.parametrize("picture", ["", "../../index", "0" * 26, "x" * 26, "a/b\0"])
def test_a_picture_that_is_not_there_is_none_whatever_it_is_called(store: TeachingStore, picture: str) -> None:
    assert store.jpeg("birds", picture) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "empty"), (b"hello", "not a JPEG"), (photo(1)[:200], "damaged"), (bytes(25_000_001), "more than 25 MB")],
)
def test_what_is_no_picture_is_refused_in_a_sentence(
    store: TeachingStore, robin: str, content: bytes, sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        store.add_picture("birds", class_id=robin, picture=content, source="upload")
    assert places(store, robin) == [0, 0, 0]


def test_a_picture_that_is_too_thin_when_it_is_scaled_is_refused(store: TeachingStore, robin: str) -> None:
    for width, height in ((2000, 17), (17, 2000), (17, 1089)):
        sentence = f"{width}x{height} pixels are too small when they are scaled to 1024; give a larger picture"
        with pytest.raises(SourceError, match=sentence):
            store.add_picture("birds", class_id=robin, picture=frame(1, side=height, width=width), source="camera")
    assert places(store, robin) == [0, 0, 0]


def test_undo_takes_the_newest_steps_back_once_each(store: TeachingStore, robin: str) -> None:
    ids = add(store, None, 1, 2, 3)
    sort = store.move("birds", ids[:2], robin)
    remove = store.move("birds", ids[1:], "bin")
    assert places(store, robin) == [1, 0, 2]
    assert store.undo("birds", remove) == 2
    assert places(store, robin) == [2, 1, 0]
    with pytest.raises(StepGoneError):
        store.undo("birds", remove)
    assert store.undo("birds", sort) == 2
    assert places(store, robin) == [0, 3, 0]


def test_undo_leaves_alone_what_a_later_step_has_moved(store: TeachingStore, robin: str) -> None:
    ids = add(store, None, 1, 2)
    sort = store.move("birds", ids, robin)
    store.move("birds", ids[:1], "bin")
    assert store.undo("birds", sort) == 1
    assert places(store, robin) == [0, 1, 1]


def test_only_twenty_steps_can_be_undone(store: TeachingStore, robin: str) -> None:
    (picture,) = add(store, None, 1)
    moves = [store.move("birds", [picture], to) for _ in range(11) for to in (robin, "bin")]
    with pytest.raises(StepGoneError):
        store.undo("birds", moves[1])
    assert store.model("birds").newest_step == moves[-1]
    assert store.undo("birds", moves[-1]) == 1


def test_undoing_a_recording_takes_back_what_was_kept_since_it_began(
    store: TeachingStore, robin: str, clock: SetClock
) -> None:
    first = store.begin_recording("birds", robin, "garden")
    add(store, robin, 1, 2, recording=first)
    store.end_recording(first)
    clock.passed_s += 50
    again = store.begin_recording("birds", robin, "garden")
    assert again == first
    add(store, robin, 3, recording=again)
    step = store.end_recording(again)
    assert step is not None
    assert store.undo("birds", step) == 1
    assert places(store, robin) == [2, 0, 1]
    clock.passed_s += 61
    assert store.begin_recording("birds", robin, "garden") != first


def test_a_removed_class_comes_back_with_its_pictures(store: TeachingStore, robin: str) -> None:
    add(store, robin, 1, 2)
    step = store.remove_class("birds", robin)
    assert places(store) == [0, 2]
    store.undo("birds", step)
    assert places(store, robin) == [2, 0, 0]
    step = store.remove_class("birds", robin)
    store.add_class("birds", "Robin")
    with pytest.raises(NameTakenError):
        store.undo("birds", step)


def test_the_bin_is_emptied_after_seven_days_or_at_once(
    store: TeachingStore, robin: str, clock: SetClock, tmp_path: Path
) -> None:
    old, new, kept = add(store, robin, 1, 2, 3)
    store.move("birds", [old], "bin")
    clock.passed_s += 6 * 86400
    store.move("birds", [new], "bin")
    clock.passed_s += 1.1 * 86400
    clock.known = False  # the wall clock may be wrong
    store.move("birds", [kept], robin)
    assert files(tmp_path) == {old, new, kept}
    clock.known = True
    store.move("birds", [kept], robin)
    assert files(tmp_path) == {new, kept}
    assert store.empty_bin("birds") == 1
    assert files(tmp_path) == {kept}


def test_an_event_that_is_corrected_again_moves_its_picture(store: TeachingStore, robin: str) -> None:
    def correct(to: str | None) -> str | None:
        guess = Guess("wren", 0.7)
        return store.add_picture(
            "birds", class_id=to, picture=photo(1), source="event", origin="E1", guess=guess, pipeline="garden"
        ).id

    first = correct(robin)
    assert correct(None) == first
    assert places(store, robin) == [0, 1, 0]
    store.withdraw("birds", "E1")
    assert places(store, robin) == [0, 0, 1]
    assert correct(robin) == first
    assert places(store, robin) == [1, 0, 0]


def test_each_correction_is_a_step_and_an_upload_is_one(store: TeachingStore, robin: str) -> None:
    first, second = (
        store.add_picture("birds", class_id=robin, picture=photo(number), source="event", origin=str(number))
        for number in (1, 2)
    )
    assert first.recording == second.recording
    assert second.step is not None
    store.undo("birds", second.step)
    assert places(store, robin) == [1, 0, 1]
    add(store, robin, 3, 4)
    step = store.model("birds").newest_step
    assert step is not None
    store.undo("birds", step)
    assert places(store, robin) == [1, 0, 3]


def test_collected_pictures_leave_the_steps_of_people_alone(store: TeachingStore, robin: str) -> None:
    step = store.move("birds", add(store, robin, 1), "bin")
    collected = store.add_picture("birds", class_id=None, picture=photo(2), source="collected", origin="c/2.jpg")
    assert (collected.kept, collected.step, store.model("birds").newest_step) == (True, None, step)
    store.move("birds", [str(collected.id)], robin)
    again = store.add_picture("birds", class_id=None, picture=photo(2), source="collected", origin="c/2.jpg")
    assert (again.kept, again.id, places(store, robin)) == (True, collected.id, [1, 0, 1])


def test_corrections_are_counted_since_a_time(store: TeachingStore, robin: str, clock: SetClock) -> None:
    ids = add(store, robin, 1, 2)
    wren = store.add_class("birds", "wren").id
    clock.passed_s += 10
    version_time = clock.utc()
    clock.passed_s += 10
    assert store.corrections_since("birds", version_time) == 0
    add(store, robin, 3)  # recorded on purpose: no correction
    step = store.move("birds", ids[:1], wren)
    store.add_picture("birds", class_id=robin, picture=photo(4), source="event", origin="E1")
    assert store.corrections_since("birds", version_time) == 2
    store.undo("birds", step)
    assert store.corrections_since("birds", version_time) == 1


def test_lists_come_in_pages(store: TeachingStore, robin: str) -> None:
    ids = add(store, robin, *range(7))
    pages, after = [], None
    while page := store.pictures("birds", robin, after, limit=3):
        pages.append([one.id for one in page])
        after = page[-1].id
    assert pages == [ids[:3:-1], ids[3:0:-1], ids[0::-1]]


def test_a_renamed_model_keeps_its_pictures_and_frees_its_name(store: TeachingStore, robin: str) -> None:
    (picture,) = add(store, robin, 1)
    store.create("cats")
    with pytest.raises(NameTakenError):
        store.rename("birds", "cats")
    store.rename("birds", "fowl")
    assert store.jpeg("fowl", picture) is not None
    store.create("birds")
    assert [one.name for one in store.models()] == ["birds", "cats", "fowl"]


def test_a_deleted_model_leaves_no_file(store: TeachingStore, robin: str, tmp_path: Path) -> None:
    add(store, robin, 1)
    store.delete("birds")
    assert not (tmp_path / "taught/birds").exists()
    store.create("birds")
    assert places(store) == [0, 0]


def test_a_folder_without_a_model_is_left_alone(store: TeachingStore, tmp_path: Path) -> None:
    (tmp_path / "taught/cats/pictures").mkdir(parents=True)
    with pytest.raises(NameTakenError, match="is in the way"):
        store.create("cats")
    assert (tmp_path / "taught/cats/pictures").is_dir()


@pytest.mark.parametrize(
    "bound",
    [
        ("MOST_PICTURES_OF_A_MODEL", 2, "a model has at most 2 pictures"),
        ("MOST_PICTURES", 2, "the store is full"),
        ("MOST_BYTES", 1000, "the store is full"),
        ("LEAST_FREE_BYTES", 1 << 60, "the disk is nearly full"),
    ],
)
def test_a_bound_refuses_a_picture_before_it_is_written(
    store: TeachingStore, robin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: tuple[str, int, str]
) -> None:
    add(store, robin, 1, 2)
    name, value, sentence = bound
    monkeypatch.setattr(adding, name, value)
    with pytest.raises(StoreFullError, match=sentence):
        add(store, robin, 3)
    assert len(files(tmp_path)) == 2


def test_two_stores_see_each_others_changes(store: TeachingStore, robin: str, tmp_path: Path, clock: SetClock) -> None:
    other = TeachingStore(tmp_path, clock)
    ids = add(other, robin, 1, 2)
    assert [one.id for one in store.pictures("birds", robin)] == ids[::-1]
    store.move("birds", ids, "bin")
    assert other.model("birds").bin == 2


def test_a_damaged_index_is_reported_and_nothing_is_removed(
    store: TeachingStore, robin: str, tmp_path: Path, clock: SetClock
) -> None:
    kept = set(add(store, robin, 1, 2))
    store.close()
    (tmp_path / "taught/index.sqlite").write_bytes(b"no database" * 1000)
    broken = TeachingStore(tmp_path, clock)
    for use in (broken.models, lambda: broken.create("cats")):
        with pytest.raises(TeachingError, match="damaged"):
            use()
    assert files(tmp_path) == kept


def test_what_an_interrupted_process_left_behind_is_removed(
    store: TeachingStore, robin: str, tmp_path: Path, clock: SetClock
) -> None:
    kept = add(store, robin, 1, 2)
    folder = tmp_path / "taught/birds/pictures"
    (folder / f"{kept[0][:-1]}Z.jpg").write_bytes(photo(9))
    (folder / f".{kept[0]}.jpg.new").write_bytes(b"half")
    (folder / f"{kept[1]}.jpg").unlink()
    store.close()
    again = TeachingStore(tmp_path, clock)
    again.move("birds", kept[:1], robin)
    assert files(tmp_path) == {kept[0]}
    assert [one.id for one in again.pictures("birds", robin)] == kept[:1]


def test_a_frame_is_cut_to_the_view(store: TeachingStore, robin: str, tmp_path: Path) -> None:
    from edge_classifierd.preprocess import Region, View

    view = View(90, "none", Region(0.0, 0.0, 0.5, 1.0))
    picture = store.add_picture(
        "birds", class_id=robin, picture=frame(1, side=100, width=200), source="camera", view=view
    )
    stored = read_image(tmp_path / f"taught/birds/pictures/{picture.id}.jpg")
    assert (stored.width, stored.height) == (50, 200)
    assert encoded(frame(1)) != store.jpeg("birds", str(picture.id))
