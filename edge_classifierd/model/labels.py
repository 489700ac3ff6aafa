"""The labels of a model, and the patterns that select labels."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_RANGE: Final = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?")
_NO_LITERAL: Final = re.compile(r"[*?]|\[.*")  # everything after a [ counts as not literal
BACKGROUND: Final = "background"


@dataclass(frozen=True)  # no slots: the cached properties need a dictionary
class Labels:
    """One name per output of the model, in its order."""

    names: tuple[str, ...]
    display: tuple[str, ...]
    """The names shown to people: in their language where the model contains it, else `names`."""
    background: int | None
    """The index of the class "none of these"."""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def terms(self) -> dict[str, tuple[int, ...]]:
        """The indices of the labels with each name or synonym (folded, see `_fold`)."""
        terms: dict[str, dict[int, None]] = {}
        for index in range(len(self)):
            for term, _ in _spelled(self, index):
                terms.setdefault(term, {})[index] = None
        return {term: tuple(indices) for term, indices in terms.items()}

    @cached_property
    def spellings(self) -> dict[str, str]:
        """The original spelling of each folded name or synonym."""
        return {term: name for index in range(len(self)) for term, name in reversed(_spelled(self, index))}

    @cached_property
    def similar(self) -> dict[str, str]:
        """`spellings`, and the same for each single word."""
        spelled = self.spellings
        return {word: name for term, name in reversed(spelled.items()) for word in term.split()} | spelled


def make_labels(names: tuple[str, ...], display: tuple[str, ...] | None = None) -> Labels:
    """Return labels; the background class is found by its name."""
    background = next((i for i, name in enumerate(names) if name.casefold() == BACKGROUND), None)
    return Labels(names, display or names, background)


def match(labels: Labels, pattern: str | int) -> tuple[int, ...]:
    """Return the indices that `pattern` selects, ascending; empty when it selects none.

    An integer is an index. A text is, in this order: a label's exact name or one of its synonyms ("tabby" for
    "tabby, tabby cat"), an index or a range of indices with both ends ("151", "151-268"), or a glob over names and
    synonyms. Upper and lower case are the same; display names count like names. A range that runs backwards or past
    the last label selects none.
    """
    if isinstance(pattern, int):
        return (pattern,) if 0 <= pattern < len(labels) else ()
    wanted = _fold(pattern)
    if not wanted:
        return ()
    if wanted in labels.terms:
        return labels.terms[wanted]
    numbers = _RANGE.fullmatch(wanted)
    if numbers:
        first = int(numbers[1])
        last = int(numbers[2]) if numbers[2] else first
        return tuple(range(first, last + 1)) if first <= last < len(labels) else ()
    longest = max(_NO_LITERAL.split(wanted), key=len)
    candidates = [term for term in labels.terms if longest in term]
    glob = re.compile(fnmatch.translate(wanted)).match
    return tuple(sorted({index for term in candidates if glob(term) for index in labels.terms[term]}))


def nearest(labels: Labels, pattern: str | int, count: int = 3) -> tuple[str, ...]:
    """Return labels that are similar to `pattern`, the most similar first."""
    wanted = re.sub(r"[*?\[\]!]+", " ", _fold(str(pattern))).strip()
    if not wanted:
        return ()
    terms = labels.spellings
    found = [
        *(name for term, name in terms.items() if wanted in term.split()),
        *(labels.similar[term] for term in difflib.get_close_matches(wanted, labels.similar, count, 0.75)),
        *(name for term, name in terms.items() if len(wanted) >= 3 and wanted in term),
    ]
    return tuple(dict.fromkeys(found))[:count]


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _spelled(labels: Labels, index: int) -> list[tuple[str, str]]:
    """Return every name of a label, folded and as written: the whole, and each synonym."""
    wholes = dict.fromkeys((labels.names[index], labels.display[index]))
    spellings = [(_fold(whole), whole) for whole in wholes]
    spellings += [(_fold(part), part) for whole in wholes if ", " in whole for part in whole.split(", ")]
    return spellings
