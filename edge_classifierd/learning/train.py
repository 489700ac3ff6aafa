"""Trains a head on the embeddings of labelled pictures and writes it as one ordinary `.tflite` file."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.errors import ModelError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.learning.dataset import split
from edge_classifierd.learning.embeddings.cache import EmbeddingCache
from edge_classifierd.learning.embeddings.embed import Embedder, computable, load_extractor
from edge_classifierd.learning.head_fitting import Examples, apply, fit_head
from edge_classifierd.learning.imprint import extend, imprint
from edge_classifierd.learning.measure import measure
from edge_classifierd.learning.other_kinds import kind_directions, with_other_kinds
from edge_classifierd.learning.taught_model import MadeModel, agreement, twin_path, write_models
from edge_classifierd.learning.training_set import (
    UNKNOWN,
    group_duplicates,
    join_recordings,
    learning_rows,
    named_pictures,
    read_training_set,
    refuse_nothing_to_learn,
    refuse_too_few,
    warnings_about_sizes,
    with_built_in_unknown,
)
from edge_classifierd.model.options import NO_OPTIONS
from edge_classifierd.model.tflite.head import last_layer, own_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.dataset import Picture
    from edge_classifierd.learning.embeddings.embed import Extractor
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.head_fitting import Fitted
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.training_set import GivenPictures, Progress, TrainingSet
    from edge_classifierd.learning.unrelated import FalseAlarms
    from edge_classifierd.model.options import ModelOptions
    from edge_classifierd.preprocess import Fit

Method = Literal["regression", "imprinting"]
_ALL_COPIES: Final = 800
"""Total number of varied copies (but at least one of each picture), which bounds the time with many pictures."""
_MOST_COPIES: Final = 8
_MIRRORED: Final = 4  # one copy in four


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What is learnt, and from which pictures and model."""

    source: Path
    extractor: Path
    output: Path
    seed: int = 0
    holdout: float = 0.2
    """The share of each class's pictures that is only used to measure; 0 learns from all."""
    method: Method = "regression"
    keep_classes: bool = False
    unknown: Path | None = None
    """A folder of pictures for the class `unknown`."""
    add_unknown: bool = True
    """Whether built-in pictures form the class `unknown` when there is none."""
    augment: int | None = None
    """Number of varied copies of each picture; cross-validation decides which are used. None: 1 to 8, fewer of many."""
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    threads: int = 2
    options: ModelOptions = NO_OPTIONS
    """The preprocessing of the extractor, where its file does not contain it."""
    embeddings: Path | None = None
    """A file that keeps what is computed for the next training of the same pictures."""
    given: GivenPictures | None = None
    """The pictures, already divided; `source` is then only named in messages, and `holdout` is not used."""


@dataclass(frozen=True, slots=True)
class Training:
    """The result of a training."""

    output: Path
    sha256: str
    size: int
    """Bytes of the file."""
    labels: tuple[str, ...]
    """All labels of the model, kept ones first."""
    learnt: tuple[Picture, ...]
    held_out: tuple[Picture, ...]
    evaluation: Evaluation | None
    """On the pictures held out; None when there are none."""
    sweeps: tuple[Sweep, ...]
    """Recommended thresholds, from the pictures held out and those left out in turn in cross-validation."""
    false_alarms: tuple[FalseAlarms, ...]
    """On each set of unrelated pictures, at the recommended thresholds."""
    fitted: Fitted
    warnings: tuple[str, ...]
    unreadable: tuple[str, ...]
    """A sentence for each picture that could not be decoded."""
    runtime: str
    agreement: float
    """The greatest difference between the written file's scores on the CPU and those computed here."""
    seconds: float
    built_in_unknown: int = 0
    """Number of built-in pictures from which the class `unknown` was learnt."""
    twin: Path | None = None
    """The same model for the CPU, written beside one for the Edge TPU."""


def train(
    plan: TrainingPlan,
    progress: Progress = lambda _what, _done, _of: None,
    announce: Callable[[str], None] = lambda _sentence: None,
) -> Training:
    """Train a head and write `plan.output`; the same files and seed give the same bytes.

    Args:
        plan: What to learn.
        progress: Called after each picture.
        announce: Called with what a user should know before the training begins.

    Raises:
        UsageError: The pictures cannot be learnt from.
        ModelError: The extractor is not suitable.
        MissingError: No runtime is installed.
    """
    with EmbeddingCache(plan.embeddings) as cache:
        return _train(plan, cache, progress, announce)


def _train(plan: TrainingPlan, cache: EmbeddingCache, progress: Progress, announce: Callable[[str], None]) -> Training:
    start = time.monotonic()
    target = load_extractor(plan.extractor, plan.options)
    extractor = computable(target)
    embedder = Embedder(extractor, fit=plan.fit, crop_fraction=plan.crop_fraction, threads=plan.threads, cache=cache)
    read = _read(plan, target, embedder, progress, announce)
    pictures, learning, held = read.pictures, read.learning, read.held
    copies, mirrored = _copies(pictures, learning, embedder, plan, progress)
    rows = learning_rows(pictures.embeddings, learning)
    examples = Examples(
        embedder.without_kinds(rows),
        copies,
        mirrored,
        pictures.classes[learning],
        read.groups[learning],
        len(pictures.names),
        embedder.channels,
    )
    progress("learning", 0, 1)
    fitted = _fit(plan, examples, target)
    if fitted.validation is not None and read.unknown is not None and plan.method == "regression":
        fitted = _knowing_other_kinds(fitted, examples, rows, target, unknown=read.unknown, seed=plan.seed)
    progress("learning", 1, 1)
    labels = (*(target.labels or ()), *pictures.names) if plan.keep_classes else pictures.names
    learnt = tuple(pictures.pictures[at] for at in learning.tolist())
    own = tuple(one for one in learnt if not one.built_in)
    twin = twin_path(plan.output) if target.edgetpu_compiled else None
    made = MadeModel(fitted.head, plan.method, labels, own, plan.extractor if plan.keep_classes else None)
    content = write_models(made, {plan.output: target, twin or plan.output: extractor}, target)[plan.output]
    progress("measuring", 0, 1)
    confidences = apply(fitted.head, pictures.embeddings)
    measured = measure(
        model=plan.output.stem,
        training_set=pictures,
        learning=learning,
        held=held,
        confidences=confidences,
        fitted=fitted,
        labels=labels,
        embedder=embedder,
    )
    progress("measuring", 1, 1)
    seen = [(one, score) for one, score in zip(pictures.pictures, confidences, strict=True) if not one.built_in]
    return Training(
        output=plan.output,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        labels=labels,
        learnt=own,
        held_out=tuple(pictures.pictures[at] for at in held.tolist()),
        evaluation=measured.evaluation,
        sweeps=measured.sweeps,
        false_alarms=measured.false_alarms,
        fitted=fitted,
        warnings=read.warnings,
        unreadable=pictures.unreadable,
        runtime=embedder.runtime,
        agreement=agreement(twin or plan.output, seen, plan.fit, plan.crop_fraction, plan.threads),
        seconds=time.monotonic() - start,
        built_in_unknown=len(learnt) - len(own),
        twin=twin,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """The pictures of a training, and what is done with each."""

    pictures: TrainingSet
    """The built-in ones, if any, are the last ones."""
    groups: NDArray[np.intp]
    learning: NDArray[np.intp]
    """Positions of the pictures to learn from."""
    held: NDArray[np.intp]
    """Positions of the pictures held out."""
    unknown: int | None
    """The class `unknown`, if there is one."""
    warnings: tuple[str, ...]


def _read(
    plan: TrainingPlan,
    target: Extractor,
    embedder: Embedder,
    progress: Progress,
    announce: Callable[[str], None],
) -> _Read:
    """Read and check the pictures, hold some out, and add the built-in ones where there is no class `unknown`."""
    given = plan.given
    if given is None:
        named = named_pictures(plan.source, plan.unknown, beside=plan.keep_classes)
        names = tuple(dict.fromkeys(one.class_name for one in named))
    else:
        named, names = given.every, given.class_names
    if plan.keep_classes:
        _refuse_keeping(plan, target, names)
    pictures = read_training_set(plan.source, named, names, embedder, progress)
    refuse_too_few(pictures, 1 if plan.method == "imprinting" or plan.holdout == 0 else 2)
    groups, warnings = group_duplicates(pictures)
    warnings += warnings_about_sizes(pictures, want_many=plan.method == "regression")
    if given is None:
        learning, held = split(pictures.classes, groups, plan.holdout, plan.seed)
    else:
        learning, held = given.divide(pictures.pictures)
        refuse_nothing_to_learn(pictures, learning)
        groups = join_recordings(groups, pictures, learning, given)
    if not len(held):
        announce(_nothing_held_out(plan))
    folded = [name.casefold() for name in pictures.names]
    unknown = folded.index(UNKNOWN) if UNKNOWN in folded else None
    if unknown is None and not plan.keep_classes:
        announce(_no_unknown(plan))
        if plan.add_unknown:
            own, unknown = len(pictures.pictures), len(folded)
            pictures = with_built_in_unknown(pictures, embedder, progress)
            added = np.arange(own, len(pictures.pictures))
            learning, groups = np.concatenate([learning, added]), np.concatenate([groups, added])
    return _Read(pictures, groups, learning, held, unknown, tuple(warnings))


def _refuse_keeping(plan: TrainingPlan, target: Extractor, names: Iterable[str]) -> None:
    """Raise UsageError where classes cannot be added to the model's own."""
    if plan.method != "imprinting":
        raise UsageError("--keep-classes needs --method imprinting: regression needs pictures of every class")
    if target.labels is None or target.embedding.layer is None:
        raise UsageError(f"{plan.extractor}: has no classes; leave out --keep-classes or give a classifier")
    known = {label.casefold() for label in target.labels}
    again = next((name for name in names if name.casefold() in known), None)
    if again is not None:
        raise UsageError(f"{plan.source}: the model already has a class `{again}`; rename the folder or remove it")


def _copies(
    training_set: TrainingSet,
    learning: NDArray[np.intp],
    embedder: Embedder,
    plan: TrainingPlan,
    progress: Progress,
) -> tuple[NDArray[np.float32], int]:
    """Return embeddings, shape (pictures, copies, columns), and the number of mirrored copies of a picture.

    There are none for imprinting, and none of the built-in pictures, which are the last ones.
    """
    own = [at for at in learning.tolist() if not training_set.pictures[at].built_in]
    count = min(_MOST_COPIES, max(1, _ALL_COPIES // len(own))) if plan.augment is None else plan.augment
    if not count or plan.method != "regression":
        return np.empty((0, 0, 0), np.float32), 0
    mirrored = count // _MIRRORED
    copies = np.empty((len(own), count, embedder.columns - embedder.kinds), np.float32)
    for number, at in enumerate(own):
        tensor = embedder.prepare(read_image(training_set.pictures[at].path)).copy()
        for copy in range(count):
            made = embedder.of_copy(tensor, copy, seed=plan.seed, mirrored=copy < mirrored)
            copies[number, copy] = embedder.without_kinds(made)
        progress("reading varied copies", number + 1, len(own))
    return copies, mirrored


def _fit(plan: TrainingPlan, examples: Examples, target: Extractor) -> Fitted:
    if plan.keep_classes:
        try:
            return extend(examples, *last_layer(target.graph, target.embedding))
        except ModelError as error:
            raise ModelError(f"{target.path}: {error}") from error
    return imprint(examples) if plan.method == "imprinting" else fit_head(examples, plan.seed)


def _knowing_other_kinds(
    fitted: Fitted, examples: Examples, rows: NDArray[np.float32], target: Extractor, *, unknown: int, seed: int
) -> Fitted:
    """Return `with_other_kinds` where the extractor is a classifier whose own scores can be used, else `fitted`."""
    if target.edgetpu_compiled or own_scores(target.graph, target.embedding) is None:
        return fitted
    try:
        directions = kind_directions(last_layer(target.graph, target.embedding)[0])
    except ModelError:
        return fitted
    if directions is None:
        return fitted
    return with_other_kinds(fitted, examples, rows[:, -len(directions) :], directions, unknown=unknown, seed=seed)


def _nothing_held_out(plan: TrainingPlan) -> str:
    why = "because of --holdout 0"
    if plan.holdout > 0:
        why = f"no class has enough different pictures to give {plan.holdout:.0%} of them; add pictures"
    return f"nothing will be held out, so how good the model is will not be measured: {why}"


def _no_unknown(plan: TrainingPlan) -> str:
    if plan.add_unknown:
        return (
            "there is no class `unknown`: it is learnt from built-in pictures of unrelated objects; pictures of what "
            "else your camera sees are better (--unknown DIR)"
        )
    return "there is no class `unknown`: every picture, whatever it shows, gets one of the classes; see --unknown"
