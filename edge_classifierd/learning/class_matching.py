"""Finds the labels of a model that mean the same as a class of a data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError, counted
from edge_classifierd.model.labels import match, nearest

if TYPE_CHECKING:
    from edge_classifierd.learning.dataset import Dataset, Picture
    from edge_classifierd.model.labels import Labels

_WORDNET: Final = re.compile(r"n\d{8}[_ -]+")
_GLOB: Final = re.compile(r"[*?\[\]]")


@dataclass(frozen=True, slots=True)
class ClassMatching:
    """The indices of the matching labels by class name, and the classes without a match."""

    targets: dict[str, tuple[int, ...]]
    unmatched: tuple[str, ...]


def match_classes(dataset: Dataset, labels: Labels) -> ClassMatching:
    """Match by label first (name, synonym, any case, `_` for a space, with ImageNet's `n02099601_`), then by index.

    Where a name matches several labels ("crane"), the class index in the table decides; without an index all of them
    are right. Where the model's first label is `background`, indices do not count it, unless the table's labels show
    otherwise. Raises UsageError when no class matches.
    """
    first: dict[str, Picture] = {}
    for picture in dataset.pictures:
        first.setdefault(picture.class_name, picture)
    named = {name: _by_name(picture.label, labels) for name, picture in first.items()}
    offset = _offset(first, named, labels)
    targets: dict[str, tuple[int, ...]] = {}
    for name, picture in first.items():
        found = named[name]
        index = None if picture.index is None else picture.index + offset
        if index is not None and index < len(labels) and (not found or index in found):
            found = (index,)
        if found:
            targets[name] = found
    unmatched = tuple(name for name in first if name not in targets)
    if not targets:
        example = unmatched[0]
        near = nearest(labels, example)
        hint = f"; did you mean {' or '.join(f'`{one}`' for one in near)}?" if near else ""
        raise UsageError(
            f"{dataset.source}: none of {counted(len(unmatched), 'class')} (`{example}` …) is among the "
            f"model's {counted(len(labels), 'label')}{hint}; name folders after the labels, or evaluate "
            "another model with --model"
        )
    return ClassMatching(targets, unmatched)


def _by_name(label: str | None, labels: Labels) -> tuple[int, ...]:
    if label is None:
        return ()
    spellings = [label, label.replace("_", " "), _WORDNET.sub("", label).replace("_", " ")]
    # "tench, Tinca tinca" matches the label "tench" too.
    spellings += [spelling.split(",", 1)[0] for spelling in spellings if "," in spelling]
    for spelling in dict.fromkeys(spellings):
        found = match(labels, spelling) if not _GLOB.search(spelling) else ()
        if found:
            return found
    return ()


def _offset(first: dict[str, Picture], named: dict[str, tuple[int, ...]], labels: Labels) -> int:
    """Return what to add to the table's indices: the most frequent difference, else 1 for a leading `background`."""
    votes: dict[int, int] = {}
    for name, picture in first.items():
        if picture.index is not None and len(named[name]) == 1:
            difference = named[name][0] - picture.index
            votes[difference] = votes.get(difference, 0) + 1
    if votes:
        best = max(votes, key=lambda difference: votes[difference])
        if best in {0, 1}:
            return best
    return 1 if labels.background == 0 else 0
