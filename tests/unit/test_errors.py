from __future__ import annotations

import pytest

from edge_classifierd.errors import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "warning", "0 warnings"), (1, "warning", "1 warning"), (2, "warning", "2 warnings"),
        (1, "class", "1 class"), (1000, "class", "1,000 classes"),
    ],
)  # fmt: skip
def test_one_is_singular(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words
