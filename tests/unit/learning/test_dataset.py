from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawn_pictures import drawn, folders, write
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.errors import UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.class_matching import match_classes
from edge_classifierd.learning.dataset import Picture, read_dataset, split, write_table
from edge_classifierd.learning.duplicates import difference_hash, grouped, near_duplicates
from edge_classifierd.learning.training_set import NEARLY_SAME_BITS
from edge_classifierd.model.labels import make_labels

if TYPE_CHECKING:
    from pathlib import Path


def test_folders_are_classes_in_natural_order_with_their_pictures_below(tmp_path: Path) -> None:
    for name in ("10", "2", ".hidden", "empty"):
        (tmp_path / name).mkdir()
    write(tmp_path / "10" / "b.jpg", drawn("disc", 0))
    write(tmp_path / "2" / "deeper" / "a.jpg", drawn("disc", 1))
    write(tmp_path / ".hidden" / "c.jpg", drawn("disc", 2))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("2", "10")
    assert [one.path.relative_to(tmp_path).as_posix() for one in dataset.pictures] == ["2/deeper/a.jpg", "10/b.jpg"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("file,class_index,label\na.jpg,3,cat\n", ("cat", 3)),
        ("label;no\n", None),
        ('\ufefffile,label\r\na.jpg,"tench, Tinca tinca"\r\n', ("tench, Tinca tinca", None)),
        ("a.jpg,7,cat\n", ("cat", 7)),
        ("a.jpg,7\n", (None, 7)),
        ("a.jpg,cat\n", ("cat", None)),
        ("Filename,Class ID\na.jpg,12\n", (None, 12)),
        ("file,class_index\na.jpg,-1\n", None),
        ("file,label\na.jpg\n", None),
        ("file,label\n", None),
        ("file,colour\na.jpg,red\n", None),
        ("", None),
    ],
)
def test_tables_with_and_without_a_header(tmp_path: Path, table: str, expected: tuple[str | None, int | None]) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(table.encode())
    if expected is None:
        with pytest.raises(UsageError, match=r"list\.csv: "):
            read_dataset(path)
        return
    assert read_dataset(path).pictures == (Picture(tmp_path / "a.jpg", *expected),)


def test_a_folder_with_a_table_and_no_class_folders_is_read_by_the_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.jpg,cat\n")
    assert read_dataset(tmp_path).classes == ("cat",)


def test_what_is_no_data_set_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one folder per class"):
        read_dataset(tmp_path)
    with pytest.raises(UsageError, match="no such folder or CSV table"):
        read_dataset(tmp_path / "nowhere")


def test_a_written_table_is_read_back(tmp_path: Path) -> None:
    pictures = read_dataset(folders(tmp_path / "set", 2)).pictures
    write_table(tmp_path / "held.csv", pictures)
    assert read_dataset(tmp_path / "held.csv").pictures == pictures


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.lists(st.integers(0, 20), min_size=60, max_size=60),
    st.floats(0, 0.9),
    st.integers(0, 99),
)
def test_a_split_parts_no_group_and_leaves_something_of_every_class(
    classes: list[int], groups: list[int], holdout: float, seed: int
) -> None:
    labels = np.array(classes, np.intp)
    group = np.array([g * 4 + c for g, c in zip(groups, classes, strict=False)], np.intp)
    learn, held = split(labels, group, holdout, seed)
    assert sorted([*learn, *held]) == list(range(len(labels)))
    assert not set(group[learn]) & set(group[held])
    assert set(labels[learn]) == set(labels)
    for one in set(classes):
        assert (labels[held] == one).sum() <= round(holdout * (labels == one).sum())
    again = split(labels, group, holdout, seed)
    assert np.array_equal(learn, again[0])


def test_a_group_larger_than_what_is_left_to_hold_out_stays_with_the_rest() -> None:
    labels, groups = np.zeros(8, np.intp), np.array([0, 0, 0, 3, 3, 3, 6, 7])
    for seed in range(10):
        assert len(split(labels, groups, 0.25, seed)[1]) <= 2


def test_a_split_meets_its_share_in_every_class() -> None:
    labels = np.repeat(np.arange(3), (100, 10, 4))
    _, held = split(labels, np.arange(114), 0.5, 1)
    assert np.bincount(labels[held]).tolist() == [50, 5, 2]
    assert not np.array_equal(held, split(labels, np.arange(114), 0.5, 2)[1])


def test_a_copy_is_found_however_it_was_saved_and_other_pictures_are_not(tmp_path: Path) -> None:
    original = drawn("disc", 1)
    brighter = np.clip(original * 0.8 + 40, 0, 255).astype(np.uint8)
    smaller = original[::2, ::2]
    others = (("d", drawn("disc", 2)), ("e", drawn("cross", 1)))
    for name, pixels in (("a", original), ("b", brighter), ("c", smaller), *others):
        write(tmp_path / f"{name}.jpg", pixels)
    hashes = np.stack([difference_hash(read_image(tmp_path / f"{name}.jpg")) for name in "abcde"])
    pairs = near_duplicates(hashes, NEARLY_SAME_BITS)
    assert (0, 1) in {tuple(pair) for pair in pairs.tolist()}
    assert all(max(pair) < 3 for pair in pairs.tolist())


def test_near_duplicates_counts_bits_and_orders_pairs() -> None:
    hashes = np.zeros((3, 256), np.bool_)
    hashes[1, :5] = True
    hashes[2, :6] = True
    assert near_duplicates(hashes, 5).tolist() == [[0, 1], [1, 2]]
    assert near_duplicates(hashes, 6).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_groups_join_through_common_members() -> None:
    assert grouped(6, np.array([[4, 5], [1, 2], [2, 4]])).tolist() == [0, 1, 1, 3, 1, 1]


IMAGENET = make_labels(("background", "tench, Tinca tinca", "goldfish", "crane", "hen", "crane"))


def matched(pictures: list[tuple[str | None, int | None]], tmp_path: Path) -> dict[str, tuple[int, ...]]:
    table = "file,class_index,label\n" + "".join(
        f'{n}.jpg,{"" if index is None else index},"{label or ""}"\n' for n, (label, index) in enumerate(pictures)
    )
    (tmp_path / "set.csv").write_text(table)
    return match_classes(read_dataset(tmp_path / "set.csv"), IMAGENET).targets


def test_classes_match_by_name_synonym_case_underscore_and_wordnet_number(tmp_path: Path) -> None:
    names = ["tench, Tinca tinca", "tinca_tinca", "TENCH", "n01440764_tench", "Goldfish, Carassius auratus"]
    targets = matched([(name, None) for name in names], tmp_path)
    assert targets == {**dict.fromkeys(names[:4], (1,)), names[4]: (2,)}


def test_an_index_decides_between_equal_names_and_counts_without_background(tmp_path: Path) -> None:
    assert matched([("crane", None)], tmp_path) == {"crane": (3, 5)}
    assert matched([("goldfish", 1), ("crane", 4)], tmp_path)["crane"] == (5,)
    assert matched([("goldfish", 2), ("crane", 3)], tmp_path)["crane"] == (3,)
    assert matched([(None, 3)], tmp_path) == {"3": (4,)}


def test_classes_without_a_label_are_reported_and_a_set_of_only_such_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a.jpg,hen\nb.jpg,zebra\n")
    assert match_classes(read_dataset(tmp_path / "set.csv"), IMAGENET).unmatched == ("zebra",)
    (tmp_path / "set.csv").write_text("a.jpg,goldfich\n")
    with pytest.raises(UsageError, match=r"none of 1 class .* is among the model's .* did you mean `goldfish`"):
        match_classes(read_dataset(tmp_path / "set.csv"), IMAGENET)
