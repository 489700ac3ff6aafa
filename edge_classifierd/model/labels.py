"""The labels of a model, and which of them a pattern of the configuration means."""

from __future__ import annotations

import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?")
BACKGROUND: Final = "background"


@dataclass(frozen=True, slots=True)
class Labels:
    """One name per output of the model, in its order."""

    names: tuple[str, ...]
    display: tuple[str, ...]
    """What people are shown: by locale where the model carries it, else the names."""
    background: int | None
    """The output that stands for "none of these"."""

    def __len__(self) -> int:
        return len(self.names)


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
    exact = tuple(i for i in range(len(labels)) if wanted in _terms(labels, i))
    if exact:
        return exact
    numbers = _RANGE.fullmatch(wanted)
    if numbers:
        first = int(numbers[1])
        last = int(numbers[2]) if numbers[2] else first
        return tuple(range(first, last + 1)) if first <= last < len(labels) else ()
    glob = re.compile(fnmatch.translate(wanted)).match
    return tuple(i for i in range(len(labels)) if any(glob(term) for term in _terms(labels, i)))


def nearest(labels: Labels, pattern: str | int, count: int = 3) -> tuple[str, ...]:
    """Labels that somebody who wrote `pattern` may have meant, the likeliest first."""
    wanted = re.sub(r"[*?\[\]!]+", " ", _fold(str(pattern))).strip()
    if not wanted:
        return ()
    terms = {term: name for i in range(len(labels)) for term, name in reversed(_spelled(labels, i))}
    similar = {word: name for term, name in reversed(terms.items()) for word in term.split()} | terms
    found = [
        *(name for term, name in terms.items() if wanted in term.split()),
        *(similar[term] for term in difflib.get_close_matches(wanted, similar, count, 0.75)),
        *(name for term, name in terms.items() if len(wanted) >= 3 and wanted in term),
    ]
    return tuple(dict.fromkeys(found))[:count]


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _terms(labels: Labels, index: int) -> set[str]:
    return {term for term, _ in _spelled(labels, index)}


def _spelled(labels: Labels, index: int) -> list[tuple[str, str]]:
    """Every way to name a label, folded and as written: the whole, and each synonym."""
    wholes = dict.fromkeys((labels.names[index], labels.display[index]))
    spellings = [(_fold(whole), whole) for whole in wholes]
    spellings += [(_fold(part), part) for whole in wholes if ", " in whole for part in whole.split(", ")]
    return spellings
