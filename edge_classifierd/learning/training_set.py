"""The material: which pictures a model is to learn from, what each looks like to it, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import SourceError, UsageError, counted
from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.dataset import Picture, images_below, read_dataset
from edge_classifierd.learning.duplicates import difference_hash, grouped, near_duplicates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.embed import Embedder

    Progress = Callable[[str, int, int], None]
    """Told what is being done, how many are done and of how many."""

UNKNOWN: Final = "unknown"
NEARLY_SAME_BITS: Final = 14
"""Of 256: different pictures of one scene, same hand, same background were 19 and more apart; copies are under 10."""
_FEW: Final = 10


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Pictures that could be read, with what is known of them."""

    source: Path
    pictures: tuple[Picture, ...]
    names: tuple[str, ...]
    """The classes, those too of which no picture could be read."""
    classes: NDArray[np.intp]
    """Of each picture, its place in `names`."""
    embeddings: NDArray[np.float32]
    """Shape (pictures, columns)."""
    hashes: NDArray[np.bool_]
    unreadable: tuple[str, ...]


def named_pictures(source: Path, unknown: Path | None, *, beside: bool) -> tuple[Picture, ...]:
    """The pictures with their classes, those in `unknown` as the class `unknown`; `beside` others one class will do.

    Raises UsageError for what holds nothing to learn.
    """
    pictures = read_dataset(source).pictures
    if unknown is not None:
        background = images_below(unknown)
        if not background:
            raise UsageError(f"{unknown}: holds no pictures; put background pictures there or leave out --unknown")
        pictures += tuple(Picture(path, UNKNOWN) for path in background)
    names = dict.fromkeys(one.class_name for one in pictures)
    if len(names) < 2 and not beside:
        raise UsageError(
            f"{source}: holds one class, `{next(iter(names))}`; there must be something to tell it from: "
            "add a folder for another class, or background pictures with --unknown DIR"
        )
    broken = next((name for name in names if "\n" in name or not name.strip()), None)
    if broken is not None:
        raise UsageError(f"{source}: the class name {broken!r} cannot be a label; rename it")
    return pictures


def look(source: Path, pictures: Sequence[Picture], embedder: Embedder, progress: Progress) -> TrainingSet:
    """Read and embed the pictures; raises UsageError when none can be read."""
    readable, embeddings, hashes, unreadable = [], [], [], []
    for number, picture in enumerate(pictures, 1):
        try:
            frame = read_image(picture.path)
        except SourceError as error:
            unreadable.append(str(error))
        else:
            readable.append(picture)
            embeddings.append(embedder(embedder.prepare(frame)))
            hashes.append(difference_hash(frame))
        progress("looking at pictures", number, len(pictures))
    if not readable:
        raise UsageError(f"none of the {len(pictures)} pictures can be read: {unreadable[0]}")
    names = tuple(dict.fromkeys(one.class_name for one in pictures))
    classes = np.array([names.index(one.class_name) for one in readable], np.intp)
    return TrainingSet(
        source, tuple(readable), names, classes, np.stack(embeddings), np.stack(hashes), tuple(unreadable)
    )


def refuse_too_few(material: TrainingSet, least: int) -> None:
    """Raises UsageError for a class with fewer readable pictures than `least`."""
    for name, count in zip(material.names, _sizes(material).tolist(), strict=True):
        if count < least:
            lost = f" ({counted(len(material.unreadable), 'picture')} could not be read)" if material.unreadable else ""
            raise UsageError(
                f"{material.source}: the class `{name}` has {counted(count, 'readable picture')}{lost}; "
                f"at least {least} are needed, 20 or more give good results"
            )


def duplicates(material: TrainingSet) -> tuple[NDArray[np.intp], list[str]]:
    """Of each picture its group, which must stay on one side of a split; and sentences on what was found."""
    pairs = near_duplicates(material.hashes, NEARLY_SAME_BITS)
    groups = grouped(len(material.pictures), pairs)
    warnings = []
    if len(pairs):
        first, second = (material.pictures[at].path for at in pairs[0].tolist())
        copies = len(groups) - len(np.unique(groups))
        warnings.append(
            f"near-duplicates: {counted(copies, 'picture')} ({second} of {first}); they are kept on one side of the "
            "split, where they cannot flatter the result"
        )
    across = pairs[material.classes[pairs[:, 0]] != material.classes[pairs[:, 1]]]
    if len(across):
        first, second = (material.pictures[at].path for at in across[0].tolist())
        warnings.append(
            f"near-duplicates in different classes: {counted(len(across), 'pair')} ({first} and {second}); put each "
            "picture in one class"
        )
    return groups, warnings


def doubts(material: TrainingSet, *, want_many: bool) -> list[str]:
    """Sentences on classes that are small, where many pictures are wanted, or smaller than others by far."""
    sizes, names = _sizes(material), material.names
    smallest = int(sizes.argmin())
    warnings = []
    if sizes[smallest] < _FEW and want_many:
        few = f"the class `{names[smallest]}` has only {counted(int(sizes[smallest]), 'picture')}"
        warnings.append(f"{few}; 20 or more give good results")
    if sizes.max() > 20 * sizes[smallest]:
        largest = names[int(sizes.argmax())]
        uneven = f"`{largest}` has {sizes.max()} pictures and `{names[smallest]}` {sizes[smallest]}"
        warnings.append(f"{uneven}; both weigh the same, but the few say little")
    return warnings


def _sizes(material: TrainingSet) -> NDArray[np.intp]:
    return np.bincount(material.classes, minlength=len(material.names))
