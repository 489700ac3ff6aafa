"""Reads and checks the pictures that a model is trained on, and computes their embeddings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import SourceError, UsageError, counted
from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.dataset import Picture, images_below, read_dataset
from edge_classifierd.learning.duplicates import BITS, burst_pairs, difference_hash, grouped, near_duplicates
from edge_classifierd.learning.unrelated import pictures_to_learn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.embeddings.embed import Embedder

    Progress = Callable[[str, int, int], None]
    """Called with the name of the step, the number of pictures that are done, and their total number."""

UNKNOWN: Final = "unknown"
NEARLY_SAME_BITS: Final = 14
"""Of 256. Different pictures of a hand before the same background differ in 19 bits or more, copies in under 10."""
_FEW: Final = 10
_UNEVEN: Final = 5
"""Ratio of the largest class to the smallest above which `train` warns."""


_FEWEST_RECORDINGS: Final = 3
"""With fewer recordings of a class, its pictures are left out one by one in cross-validation and not by recording."""


@dataclass(frozen=True, slots=True)
class GivenPictures:
    """Pictures that are divided already into those to learn from and those held out."""

    learn: tuple[Picture, ...]
    held_out: tuple[Picture, ...]
    recordings: Mapping[Path, str]
    """Pictures of one recording are alike; so they stay in one fold of the cross-validation where there are enough."""

    @property
    def every(self) -> tuple[Picture, ...]:
        """Return all pictures, first those held out; built-in pictures, which are learnt from too, follow later.

        So all pictures to learn from follow one another (see `learning_rows`).
        """
        return *self.held_out, *self.learn

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the name of each class once, in the order of `learn`; then classes that are only held out."""
        return tuple(dict.fromkeys(one.class_name for one in (*self.learn, *self.held_out)))

    def divide(self, pictures: Sequence[Picture]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the positions in `pictures` to learn from and those held out, both ascending."""
        held_out = {one.path for one in self.held_out}
        held = np.array([one.path in held_out for one in pictures], np.bool_)
        return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The pictures that could be read, with their classes and embeddings."""

    source: Path
    pictures: tuple[Picture, ...]
    names: tuple[str, ...]
    """The classes, including those without a readable picture."""
    classes: NDArray[np.intp]
    """Shape (pictures,): positions in `names`."""
    embeddings: NDArray[np.float32]
    """Shape (pictures, columns)."""
    hashes: NDArray[np.bool_]
    unreadable: tuple[str, ...]


def named_pictures(source: Path, unknown: Path | None, *, beside: bool) -> tuple[Picture, ...]:
    """Return the pictures with their classes; the pictures in the folder `unknown` form the class `unknown`.

    With `beside`, one class is enough, because it is added to a classifier's own. Raises UsageError when there is
    nothing to learn.
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
            f"{source}: holds one class, `{next(iter(names))}`; it needs something to be compared with: "
            "add a folder for another class, or background pictures with --unknown DIR"
        )
    broken = next((name for name in names if "\n" in name or not name.strip()), None)
    if broken is not None:
        raise UsageError(f"{source}: the class name {broken!r} cannot be a label; rename it")
    return pictures


def read_training_set(
    source: Path, pictures: Sequence[Picture], names: tuple[str, ...], embedder: Embedder, progress: Progress
) -> TrainingSet:
    """Read the pictures of the classes `names` and compute their embeddings.

    Raises UsageError when none can be read.
    """
    readable: list[Picture] = []
    unreadable = []
    embeddings = np.empty((len(pictures), embedder.columns), np.float32)
    hashes = np.empty((len(pictures), BITS), np.bool_)
    for number, picture in enumerate(pictures, 1):
        try:
            frame = read_image(picture.path)
        except SourceError as error:
            unreadable.append(str(error))
        else:
            embeddings[len(readable)] = embedder(embedder.prepare(frame))
            hashes[len(readable)] = difference_hash(frame)
            readable.append(picture)
        progress("reading pictures", number, len(pictures))
    if not readable:
        raise UsageError(f"none of the {len(pictures)} pictures can be read: {summarised(unreadable)[0]}")
    classes = np.array([names.index(one.class_name) for one in readable], np.intp)
    count = len(readable)
    return TrainingSet(source, tuple(readable), names, classes, embeddings[:count], hashes[:count], tuple(unreadable))


def with_built_in_unknown(training_set: TrainingSet, embedder: Embedder, progress: Progress) -> TrainingSet:
    """Return the training set with a last class `unknown`, made of the built-in pictures for learning."""
    paths = pictures_to_learn()
    progress("reading built-in pictures", 0, len(paths))
    embeddings = embed_built_in(paths, embedder)
    progress("reading built-in pictures", len(paths), len(paths))
    return dataclasses.replace(
        training_set,
        pictures=(*training_set.pictures, *(Picture(path, UNKNOWN, built_in=True) for path in paths)),
        names=(*training_set.names, UNKNOWN),
        classes=np.concatenate([training_set.classes, np.full(len(paths), len(training_set.names), np.intp)]),
        embeddings=np.concatenate([training_set.embeddings, embeddings]),
    )


def embed_built_in(paths: Sequence[Path], embedder: Embedder) -> NDArray[np.float32]:
    """Return the embeddings of built-in pictures, shape (pictures, columns)."""
    return np.stack([embedder(embedder.prepare(read_image(path))) for path in paths])


def refuse_too_few(training_set: TrainingSet, least: int) -> None:
    """Raise UsageError for a class with fewer readable pictures than `least`."""
    for name, count in zip(training_set.names, _sizes(training_set).tolist(), strict=True):
        if count < least:
            unreadable = training_set.unreadable
            lost = f" ({counted(len(unreadable), 'picture')} could not be read)" if unreadable else ""
            raise UsageError(
                f"{training_set.source}: the class `{name}` has {counted(count, 'readable picture')}{lost}; "
                f"at least {least} are needed, 20 or more give good results"
            )


def refuse_nothing_to_learn(training_set: TrainingSet, learning: NDArray[np.intp]) -> None:
    """Raise UsageError for a class of which every readable picture is held out."""
    for name, count in zip(
        training_set.names, np.bincount(training_set.classes[learning], minlength=len(training_set.names)), strict=True
    ):
        if not count:
            raise UsageError(
                f"{training_set.source}: the class `{name}` has no readable picture to learn from; add pictures"
            )


def group_duplicates(training_set: TrainingSet) -> tuple[NDArray[np.intp], list[str]]:
    """Return the group of each picture and warnings; near-duplicates and pictures of one burst share a group.

    The pictures of one group must stay on one side of a split.
    """
    pairs = near_duplicates(training_set.hashes, NEARLY_SAME_BITS)
    groups = grouped(len(training_set.pictures), pairs)
    bursts = grouped(len(training_set.pictures), burst_pairs([one.path for one in training_set.pictures]))
    warnings = []
    if len(np.unique(bursts)) < len(bursts):
        taken = int((np.bincount(bursts)[bursts] > 1).sum())
        warnings.append(
            f"bursts: {counted(taken, 'picture')} were taken at most 3 s apart; the pictures of a burst are kept on "
            "one side of the split, because they would make the model look better than it is"
        )
    if len(pairs):
        first, second = (training_set.pictures[at].path for at in pairs[0].tolist())
        copies = len(groups) - len(np.unique(groups))
        warnings.append(
            f"near-duplicates: {counted(copies, 'picture')} ({second} of {first}); they are kept on one side of the "
            "split, because they would make the model look better than it is"
        )
    across = pairs[training_set.classes[pairs[:, 0]] != training_set.classes[pairs[:, 1]]]
    if len(across):
        first, second = (training_set.pictures[at].path for at in across[0].tolist())
        warnings.append(
            f"near-duplicates in different classes: {counted(len(across), 'pair')} ({first} and {second}); put each "
            "picture in one class"
        )
    both = np.arange(len(groups))
    return grouped(len(groups), np.concatenate([np.stack((both, groups), 1), np.stack((both, bursts), 1)])), warnings


def join_recordings(
    groups: NDArray[np.intp], training_set: TrainingSet, learning: NDArray[np.intp], given: GivenPictures
) -> NDArray[np.intp]:
    """Return the groups with the pictures of each recording joined, in classes learnt from three recordings or more.

    A burst lies in one recording, and recordings differ in light and background as new pictures do.
    """
    pairs = [np.stack((np.arange(len(groups)), groups), 1)]
    for one in range(len(training_set.names)):
        first: dict[str, int] = {}
        members = [at for at in learning.tolist() if training_set.classes[at] == one]
        recordings = [given.recordings.get(training_set.pictures[at].path, str(at)) for at in members]
        if len(set(recordings)) >= _FEWEST_RECORDINGS:
            joined = [(first.setdefault(name, at), at) for name, at in zip(recordings, members, strict=True)]
            pairs.append(np.array(joined, np.intp))
    return grouped(len(groups), np.concatenate(pairs))


def learning_rows(embeddings: NDArray[np.float32], learning: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the embeddings of the pictures to learn from: a view, not a copy, where their rows follow one another.

    Args:
        embeddings: Shape (pictures, columns).
        learning: Positions of the pictures to learn from, ascending; at least one.
    """
    together = slice(learning[0], learning[-1] + 1)
    return embeddings[together if len(learning) == together.stop - together.start else learning]


def warnings_about_sizes(training_set: TrainingSet, *, want_many: bool) -> list[str]:
    """Return warnings about classes with few pictures (with `want_many`), or with far fewer than another class."""
    sizes, names = _sizes(training_set), training_set.names
    smallest = int(sizes.argmin())
    warnings = []
    if sizes[smallest] < _FEW and want_many:
        few = f"the class `{names[smallest]}` has only {counted(int(sizes[smallest]), 'picture')}"
        warnings.append(f"{few}; 20 or more give good results")
    if sizes.max() > _UNEVEN * sizes[smallest]:
        largest = names[int(sizes.argmax())]
        uneven = f"`{largest}` has {sizes.max()} pictures and `{names[smallest]}` {sizes[smallest]}"
        warnings.append(
            f"{uneven}: both have the same weight in training; judge by the balanced accuracy and add pictures of "
            f"`{names[smallest]}`"
        )
    return warnings


def summarised(unreadable: Sequence[str]) -> list[str]:
    """Return one sentence for each unreadable picture, but a single one for all HEIC pictures."""
    heic = [one for one in unreadable if one.partition(": ")[0].lower().endswith((".heic", ".heif", ".hif"))]
    others = [one for one in unreadable if one not in heic]
    if not heic:
        return others
    first = heic[0].partition(": ")[0]
    return [f"{counted(len(heic), 'HEIC picture')} ({first} …): convert them to JPEG", *others]


def _sizes(training_set: TrainingSet) -> NDArray[np.intp]:
    return np.bincount(training_set.classes, minlength=len(training_set.names))
