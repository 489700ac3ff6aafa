"""Pictures to sort come in groups of look-alikes, the most uncertain first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from teaching_scene import photo

from edge_classifierd.teaching.groups import ALIKE_BITS, GUESSED_ALIKE_BITS, group_of
from edge_classifierd.teaching.records import Guess

if TYPE_CHECKING:
    from edge_classifierd.teaching.store import TeachingStore


def test_the_most_similar_picture_with_the_same_guess_decides() -> None:
    others = [("a", "wren"), ("b", "robin"), ("c", "wren"), ("d", None)]
    assert group_of(np.array([30, 1, 20, 2]), others, "wren") == "c"
    assert group_of(np.array([99, 1, 99, 2]), others, "wren") is None
    assert group_of(np.array([1, 1, 1, ALIKE_BITS]), others, None) == "d"
    assert group_of(np.array([1, 1, 1, ALIKE_BITS + 1]), others, None) is None
    assert group_of(np.array([GUESSED_ALIKE_BITS, 1, 99, 2]), others, "wren") == "a"
    assert group_of(np.empty(0, np.intp), [], None) is None


def test_groups_to_sort_come_with_the_most_uncertain_first(store: TeachingStore) -> None:
    def collect(number: int, guess: Guess | None) -> None:
        store.add_picture("birds", class_id=None, picture=photo(number), source="collected", guess=guess)

    collect(1, Guess("wren", 0.9))
    for number, confidence in ((2, 0.5), (3, 0.3), (4, 0.4)):
        collect(number, Guess(f"robin {number}", confidence))
    collect(5, None)
    found = store.pictures("birds", "to_sort")
    assert [None if one.guess is None else one.guess.confidence for one in found] == [None, 0.3, 0.4, 0.5, 0.9]
    assert store.model("birds").to_sort_groups == len({one.group for one in found}) == 5
    rest = store.pictures("birds", "to_sort", found[1].id, limit=2)
    assert rest == found[2:4]


def test_look_alikes_are_listed_together(store: TeachingStore) -> None:
    for number in (1, 2, 1, 2):  # the same pictures again are kept in another place only
        store.add_picture("birds", class_id=None, picture=photo(number), source="upload")
        store.move("birds", [one.id for one in store.pictures("birds", "to_sort")], "bin")
    store.move("birds", [one.id for one in store.pictures("birds", "bin")], "to_sort")
    groups = [one.group for one in store.pictures("birds", "to_sort")]
    assert groups[0] == groups[1] != groups[2] == groups[3]
