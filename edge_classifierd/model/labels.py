"""The labels of a model, and which of them a pattern of the configuration means."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

_RANGE: Final = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?")
_NO_LITERAL: Final = re.compile(r"[*?]|\[.*")  # what follows a [ is taken for no literal, wherever the ] may be
BACKGROUND: Final = "background"


@dataclass(frozen=True)  # no slots: the cached properties need a dictionary
class Labels:
    """One name per output of the model, in its order."""

    names: tuple[str, ...]
    display: tuple[str, ...]
    """What people are shown: by locale where the model carries it, else the names."""
    background: int | None
    """The output that stands for "none of these"."""

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def terms(self) -> dict[str, tuple[int, ...]]:
        """The labels that each folded name or synonym means."""
        terms: dict[str, dict[int, None]] = {}
        for index in range(len(self)):
            for term, _ in _spelled(self, index):
                terms.setdefault(term, {})[index] = None
        return {term: tuple(indices) for term, indices in terms.items()}

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Each folded name or synonym as it is written."""
        return {term: name for index in range(len(self)) for term, name in reversed(_spelled(self, index))}

    @cached_property
    def similar(self) -> dict[str, str]:
        """The same for each of their words too."""
        spelled = self.spellings
        return {word: name for term, name in reversed(spelled.items()) for word in term.split()} | spelled


def make_labels(names: tuple[str, ...], display: tuple[str, ...] | None = None) -> Labels:
    """Labels whose background is recognised by its name."""
    background = next((i for i, name in enumerate(names) if name.casefold() == BACKGROUND), None)
    return Labels(names, display or names, background)


def match(labels: Labels, pattern: str | int) -> tuple[int, ...]:
    """The indices that `pattern` means, ascending; empty when it means none.

    An integer is an index. A text is, in this order: a label's exact name or one of its synonyms ("tabby" for
    "tabby, tabby cat"), an index or a range of indices with both ends ("151", "151-268"), or a glob over names and
    synonyms. Upper and lower case are the same; display names count like names. A range that runs backwards or past
    the last label means none.
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
    """Labels that somebody who wrote `pattern` may have meant, the likeliest first."""
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
    """Every way to name a label, folded and as written: the whole, and each synonym."""
    wholes = dict.fromkeys((labels.names[index], labels.display[index]))
    spellings = [(_fold(whole), whole) for whole in wholes]
    spellings += [(_fold(part), part) for whole in wholes if ", " in whole for part in whole.split(", ")]
    return spellings
