"""Which labels a pattern of the configuration means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.model.labels import make_labels, match, nearest

LABELS = make_labels(
    (
        "background",
        "tench, Tinca tinca",
        "Labrador retriever",
        "toy terrier",
        "Norfolk terrier",
        "tabby, tabby cat",
        "crane",
        "crane",
        "[unknown]",
    ),
    ("background", "Schleie", "Labrador", "toy terrier", "Norfolk terrier", "Katze", "Kran", "Kranich", "?"),
)


@pytest.mark.parametrize(
    ("pattern", "indices"),
    [
        ("Labrador retriever", (2,)),
        ("labrador RETRIEVER", (2,)),
        ("  Labrador  retriever ", (2,)),
        ("tabby", (5,)),
        ("tabby cat", (5,)),
        ("tabby, tabby cat", (5,)),
        ("TINCA TINCA", (1,)),
        ("*terrier*", (3, 4)),
        ("*terrier", (3, 4)),
        ("t*", (1, 3, 5)),
        ("t?nch", (1,)),
        ("[mn]orfolk*", (4,)),
        ("crane", (6, 7)),
        ("[unknown]", (8,)),
        ("Katze", (5,)),
        ("3", (3,)),
        (3, (3,)),
        (0, (0,)),
        ("3-5", (3, 4, 5)),
        ("3 - 5", (3, 4, 5)),
        ("5-5", (5,)),
        ("5-3", ()),
        ("3-99", ()),
        ("99", ()),
        (99, ()),
        (-1, ()),
        ("", ()),
        ("  ", ()),
        ("retriever", ()),
        ("cat", ()),
        ("[", ()),
    ],
)
def test_pattern_means_these_labels(pattern: str | int, indices: tuple[int, ...]) -> None:
    assert match(LABELS, pattern) == indices


def test_label_that_is_a_number_is_meant_by_its_text_and_an_index_by_a_number() -> None:
    digits = make_labels(("0", "1", "10", "2"))
    assert match(digits, "2") == (3,)
    assert match(digits, 2) == (2,)
    assert match(digits, "1-2") == (1, 2)


def test_background_is_recognised_wherever_it_stands() -> None:
    assert LABELS.background == 0
    assert make_labels(("robin", "Background")).background == 1
    assert make_labels(("robin",)).background is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Labrador retriver", "Labrador retriever"),
        ("*terier*", "toy terrier"),
        ("cat", "tabby cat"),
        ("*cats", "tabby cat"),
        ("norfolk", "Norfolk terrier"),
        ("Schleihe", "Schleie"),
    ],
)
def test_misspelled_label_finds_the_one_that_is_meant(written: str, meant: str) -> None:
    assert match(LABELS, written) == ()
    assert nearest(LABELS, written)[0] == meant


def test_nothing_near_gives_nothing() -> None:
    assert nearest(LABELS, "xylophone quartz") == ()
    assert nearest(LABELS, "***") == ()
    assert nearest(LABELS, 4711) == ()


def test_pattern_of_many_stars_is_quick() -> None:
    assert match(make_labels(("a" * 200,)), "*a" * 40 + "b") == ()


@given(st.text(max_size=30) | st.integers())
def test_any_pattern_gives_ascending_indices_inside_the_list(pattern: str | int) -> None:
    indices = match(LABELS, pattern)
    assert list(indices) == sorted(set(indices))
    assert all(0 <= index < len(LABELS) for index in indices)
    nearest(LABELS, pattern)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8))
def test_every_label_matches_its_own_name(names: list[str]) -> None:
    labels = make_labels(tuple(names))
    for index, name in enumerate(names):
        assert index in match(labels, name) or not name.strip()
