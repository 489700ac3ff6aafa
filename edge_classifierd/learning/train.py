"""Trains a head on the embeddings of labelled pictures and writes it as one ordinary `.tflite` file."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from edge_classifierd.errors import InferenceError, ModelError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.augment import varied
from edge_classifierd.learning.dataset import split
from edge_classifierd.learning.embed import Embedder, computable, load_extractor
from edge_classifierd.learning.head_fitting import Examples, apply, fit_head
from edge_classifierd.learning.imprint import extend, imprint
from edge_classifierd.learning.learnt_pictures import ARCHIVED_AS, learnt_by, packed, picture_hash
from edge_classifierd.learning.measure import measure
from edge_classifierd.learning.training_set import (
    UNKNOWN,
    group_duplicates,
    named_pictures,
    read_training_set,
    refuse_too_few,
    warnings_about_sizes,
    with_built_in_unknown,
)
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.options import NO_OPTIONS
from edge_classifierd.model.tflite.head import last_layer, with_head
from edge_classifierd.model.tflite.writer import About, write_model
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.learning.dataset import Picture
    from edge_classifierd.learning.embed import Extractor
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.head_fitting import Fitted
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.training_set import Progress, TrainingSet
    from edge_classifierd.learning.unrelated import FalseAlarms
    from edge_classifierd.model.options import ModelOptions
    from edge_classifierd.preprocess import Fit

Method = Literal["regression", "imprinting"]
_CHECKED: Final = 16
_AGREEMENT: Final = 1e-3
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
    start = time.monotonic()
    target = load_extractor(plan.extractor, plan.options)
    extractor = computable(target)
    pictures = named_pictures(plan.source, plan.unknown, beside=plan.keep_classes)
    if plan.keep_classes:
        _refuse_keeping(plan, target, dict.fromkeys(one.class_name for one in pictures))
    embedder = Embedder(extractor, fit=plan.fit, crop_fraction=plan.crop_fraction, threads=plan.threads)
    seen = read_training_set(plan.source, pictures, embedder, progress)
    refuse_too_few(seen, 1 if plan.method == "imprinting" or plan.holdout == 0 else 2)
    groups, warnings = group_duplicates(seen)
    warnings += warnings_about_sizes(seen, want_many=plan.method == "regression")
    learning, held = split(seen.classes, groups, plan.holdout, plan.seed)
    if not len(held):
        announce(_nothing_held_out(plan))
    everything = seen
    if not plan.keep_classes and UNKNOWN not in {name.casefold() for name in seen.names}:
        announce(_no_unknown(plan))
        if plan.add_unknown:
            everything = with_built_in_unknown(seen, embedder, progress)
            added = np.arange(len(seen.pictures), len(everything.pictures))
            learning, groups = np.concatenate([learning, added]), np.concatenate([groups, added])
    copies, mirrored = _copies(everything, learning, embedder, plan, progress)
    examples = Examples(
        everything.embeddings[learning],
        copies,
        mirrored,
        everything.classes[learning],
        groups[learning],
        len(everything.names),
        embedder.channels,
    )
    progress("learning", 0, 1)
    fitted = _fit(plan, examples, target)
    progress("learning", 1, 1)
    names = everything.names
    labels = (*(target.labels or ()), *names) if plan.keep_classes else names
    learnt = tuple(everything.pictures[at] for at in learning.tolist())
    twin = _twin_path(plan.output) if target.edgetpu_compiled else None
    content = _write_models(plan, {plan.output: target, twin or plan.output: extractor}, fitted, labels, learnt)
    confidences = apply(fitted.head, everything.embeddings, embedder.channels)
    measured = measure(
        model=plan.output.stem,
        training_set=everything,
        learning=learning,
        held=held,
        confidences=confidences,
        fitted=fitted,
        labels=labels,
        embedder=embedder,
    )
    return Training(
        output=plan.output,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        labels=labels,
        learnt=tuple(one for one in learnt if not one.built_in),
        held_out=tuple(seen.pictures[at] for at in held.tolist()),
        evaluation=measured.evaluation,
        sweeps=measured.sweeps,
        false_alarms=measured.false_alarms,
        fitted=fitted,
        warnings=tuple(warnings),
        unreadable=seen.unreadable,
        runtime=embedder.runtime,
        agreement=_agreement(plan, twin or plan.output, seen.pictures, confidences),
        seconds=time.monotonic() - start,
        built_in_unknown=len(everything.pictures) - len(seen.pictures),
        twin=twin,
    )


def _twin_path(output: Path) -> Path:
    """Return `signs_cpu.tflite` for `signs_edgetpu.tflite` and for `signs.tflite`."""
    return output.with_name(f"{output.stem.removesuffix('_edgetpu')}_cpu{output.suffix}")


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
    random = np.random.default_rng((plan.seed, 2))
    copies = []
    for number, at in enumerate(own, 1):
        tensor = embedder.prepare(read_image(training_set.pictures[at].path)).copy()
        copies.append([embedder(varied(tensor, random, mirrored=copy < mirrored)) for copy in range(count)])
        progress("reading varied copies", number, len(own))
    return np.array(copies), mirrored


def _fit(plan: TrainingPlan, examples: Examples, target: Extractor) -> Fitted:
    if plan.keep_classes:
        try:
            return extend(examples, *last_layer(target.graph, target.embedding))
        except ModelError as error:
            raise ModelError(f"{target.path}: {error}") from error
    return imprint(examples) if plan.method == "imprinting" else fit_head(examples, plan.seed)


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


def _write_models(
    plan: TrainingPlan,
    extractors: dict[Path, Extractor],
    fitted: Fitted,
    labels: tuple[str, ...],
    learnt: Sequence[Picture],
) -> bytes:
    """Write a model for each extractor and return the content of `plan.output`."""
    target = extractors[plan.output]
    kept = learnt_by(plan.extractor) if plan.keep_classes else frozenset()
    hashes = packed([*kept, *(picture_hash(one.path) for one in learnt if not one.built_in)])
    contents = {}
    for path, extractor in extractors.items():
        graph = with_head(extractor.graph, extractor.embedding, fitted.head)
        contents[path] = write_model(graph, _about(plan, path, target, labels, hashes))
        _write(path, contents[path])
    return contents[plan.output]


def _about(plan: TrainingPlan, path: Path, target: Extractor, labels: tuple[str, ...], hashes: bytes) -> About:
    kept = f"the {len(target.labels or ()):,} classes of it and {len(labels) - len(target.labels or ()):,} new ones"
    what = kept if plan.keep_classes else f"{len(labels):,} classes"
    description = f"Classifies pictures into {what}: a head trained by {plan.method} on {target.path.name}."
    files = ((ARCHIVED_AS, hashes),)
    return About(path.stem, description, labels, target.normalisation, target.metadata.licence, files)


def _write(path: Path, content: bytes) -> None:
    """Replace the file at once, so that nobody reads a half-written model. Raises UsageError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def _agreement(plan: TrainingPlan, path: Path, pictures: Sequence[Picture], confidences: NDArray[np.float32]) -> float:
    """Return the greatest difference between the file's scores and `confidences`, on up to 16 pictures.

    Raises InferenceError when it is above 0.001.
    """
    bundle = load_bundle(path)
    classifier = make_classifier(bundle, "cpu", plan.threads)
    prepare = Preprocessor(bundle.input, bundle.normalisation, fit=plan.fit, crop_fraction=plan.crop_fraction)
    worst = 0.0
    for at in range(0, len(pictures), -(-len(pictures) // _CHECKED)):
        scores = classifier.classify(prepare(read_image(pictures[at].path))).confidences
        worst = max(worst, float(np.abs(scores - confidences[at]).max()))
    classifier.close()
    if worst > _AGREEMENT:
        raise InferenceError(
            f"{path}: its scores in {classifier.runtime} differ by up to {worst:.4f} from the trained head; "
            "do not use it, and report this"
        )
    return worst
