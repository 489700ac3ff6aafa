from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_classifierd.errors import UsageError
from edge_classifierd.learning.dataset import Picture
from edge_classifierd.learning.training_set import (
    GivenPictures,
    TrainingSet,
    join_recordings,
    learning_rows,
    refuse_nothing_to_learn,
)

if TYPE_CHECKING:
    from pathlib import Path


def training_set(folder: Path, *classes: str) -> TrainingSet:
    pictures = tuple(Picture(folder / f"{at}.jpg", name) for at, name in enumerate(classes))
    names = tuple(dict.fromkeys(classes))
    numbers = np.array([names.index(name) for name in classes], np.intp)
    empty = np.zeros((len(classes), 1), np.float32)
    return TrainingSet(folder, pictures, names, numbers, empty, empty.astype(np.bool_), ())


def test_given_pictures_stay_on_their_side(tmp_path: Path) -> None:
    pictures = training_set(tmp_path, "a", "a", "b", "b").pictures
    given = GivenPictures((pictures[0], pictures[3]), (pictures[1], pictures[2]), {})
    learning, held = given.divide(pictures[1:])  # the first cannot be read
    assert (learning.tolist(), held.tolist()) == ([2], [0, 1])


def test_embeddings_to_learn_from_are_not_copied_though_built_in_ones_follow(tmp_path: Path) -> None:
    pictures = training_set(tmp_path, "a", "a", "b", "b", "b").pictures
    given = GivenPictures((pictures[0], pictures[2], pictures[4]), (pictures[3], pictures[1]), {})
    assert given.class_names == ("a", "b")
    learning, _ = given.divide(given.every)
    embeddings = np.arange(12.0, dtype=np.float32).reshape(6, 2)  # the last one is built-in
    rows = learning_rows(embeddings, np.append(learning, 5))
    assert rows.tolist() == embeddings[2:].tolist()
    assert np.shares_memory(rows, embeddings)


def test_recordings_are_joined_where_a_class_has_three(tmp_path: Path) -> None:
    found = training_set(tmp_path, *"aaaaaabbbb")
    recordings = {one.path: name for one, name in zip(found.pictures, "uuvvwwxxyy", strict=True)}
    given = GivenPictures(found.pictures, (), recordings)
    groups = join_recordings(np.arange(10), found, np.arange(10), given)
    assert groups.tolist() == [0, 0, 2, 2, 4, 4, 6, 7, 8, 9]


def test_recordings_join_the_groups_of_look_alikes(tmp_path: Path) -> None:
    found = training_set(tmp_path, *"aaaaa")
    recordings = {one.path: name for one, name in zip(found.pictures, "uuvvw", strict=True)}
    groups = join_recordings(
        np.array([0, 1, 1, 3, 4]), found, np.arange(5), GivenPictures(found.pictures, (), recordings)
    )
    assert groups.tolist() == [0, 0, 0, 0, 4]


def test_a_class_whose_pictures_are_all_held_out_is_refused(tmp_path: Path) -> None:
    found = training_set(tmp_path, "a", "b", "b")
    refuse_nothing_to_learn(found, np.array([0, 2]))
    with pytest.raises(UsageError, match="the class `b` has no readable picture to learn from"):
        refuse_nothing_to_learn(found, np.array([0]))
