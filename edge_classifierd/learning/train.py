"""Teaching a model new classes: pictures to embeddings to a head, written as one ordinary `.tflite`."""

from __future__ import annotations

import dataclasses
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
from edge_classifierd.learning.evaluate import Scored, evaluate
from edge_classifierd.learning.head_fitting import Examples, apply, fit_head
from edge_classifierd.learning.imprint import extend, imprint
from edge_classifierd.learning.learnt_pictures import ARCHIVED_AS, learnt_by, packed, picture_hash
from edge_classifierd.learning.predict import sweeps_of
from edge_classifierd.learning.training_set import doubts, duplicates, look, named_pictures, refuse_too_few
from edge_classifierd.model.bundle import load_bundle
from edge_classifierd.model.options import NO_OPTIONS, ModelOptions
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
    from edge_classifierd.learning.training_set import Progress
    from edge_classifierd.preprocess import Fit

Method = Literal["regression", "imprinting"]
_CHECKED: Final = 16
_AGREEMENT: Final = 1e-3
_LOOKS: Final = 800
"""How many copies are looked at in all, but one of each picture at least: bounds the time with many pictures."""
_MOST_COPIES: Final = 8
_MIRRORED: Final = 4  # every fourth copy


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What to learn from what."""

    source: Path
    extractor: Path
    output: Path
    seed: int = 0
    holdout: float = 0.2
    """The share of each class's pictures that is kept apart to measure with; 0 learns from all."""
    method: Method = "regression"
    keep_classes: bool = False
    unknown: Path | None = None
    augment: int | None = None
    """Varied copies of each picture; cross-validation decides which are used. None: as many as time allows, 1 to 8."""
    fit: Fit = "crop"
    crop_fraction: float = 1.0
    threads: int = 2
    options: ModelOptions = NO_OPTIONS
    """The preprocessing of the extractor, where its file does not contain it."""


@dataclass(frozen=True, slots=True)
class Training:
    """What came of it."""

    output: Path
    sha256: str
    size: int
    labels: tuple[str, ...]
    learnt: tuple[Picture, ...]
    held_out: tuple[Picture, ...]
    evaluation: Evaluation | None
    """On the pictures held out; None without any."""
    fitted: Fitted
    warnings: tuple[str, ...]
    unreadable: tuple[str, ...]
    runtime: str
    agreement: float
    """The greatest difference between the written file's scores on the CPU and those computed here."""
    seconds: float
    twin: Path | None = None
    """The same for the CPU, written beside what was taught to a compiled extractor."""


def train(
    plan: TrainingPlan,
    progress: Progress = lambda _what, _done, _of: None,
    announce: Callable[[str], None] = lambda _sentence: None,
) -> Training:
    """Learn and write `plan.output`; the same files and seed give the same bytes.

    `announce` gets what a user should know before the pictures are learnt from. Raises UsageError for data that cannot
    be learnt from, ModelError for an unsuitable extractor, MissingError without a runtime.
    """
    start = time.monotonic()
    target = load_extractor(plan.extractor, plan.options)
    extractor = computable(target)
    pictures = named_pictures(plan.source, plan.unknown, beside=plan.keep_classes)
    if plan.keep_classes:
        _refuse_keeping(plan, target, dict.fromkeys(one.class_name for one in pictures))
    embedder = Embedder(extractor, fit=plan.fit, crop_fraction=plan.crop_fraction, threads=plan.threads)
    seen = look(plan.source, pictures, embedder, progress)
    names, classes = seen.names, seen.classes
    refuse_too_few(seen, 1 if plan.method == "imprinting" or plan.holdout == 0 else 2)
    groups, warnings = duplicates(seen)
    warnings += doubts(seen, want_many=plan.method == "regression")
    learning, held = split(classes, groups, plan.holdout, plan.seed)
    learnt = tuple(seen.pictures[at] for at in learning.tolist())
    if not len(held):
        announce(_nothing_held_out(plan))
    copies, mirrored = _copies(learnt, embedder, plan, progress)
    originals = seen.embeddings[learning]
    examples = Examples(originals, copies, mirrored, classes[learning], groups[learning], len(names), embedder.channels)
    progress("learning", 0, 1)
    fitted = _fit(plan, examples, target)
    progress("learning", 1, 1)
    labels = (*(target.labels or ()), *names) if plan.keep_classes else names
    twin = _twin_path(plan.output) if target.edgetpu_compiled else None
    written = {}
    hashes = _learnt_hashes(plan, learnt)
    for path, whose in {plan.output: target, twin or plan.output: extractor}.items():
        graph = with_head(whose.graph, whose.embedding, fitted.head)
        written[path] = write_model(graph, _about(plan, path, target, labels, hashes))
        _write(path, written[path])
    content = written[plan.output]
    held_pictures = tuple(seen.pictures[at] for at in held.tolist())
    confidences = apply(fitted.head, seen.embeddings, embedder.channels)
    agreement = _agreement(plan, twin or plan.output, seen.pictures, confidences)
    evaluation = None
    if len(held):
        first = len(labels) - len(names)
        paths = [one.path for one in held_pictures]
        targets = [(first + at,) for at in range(len(names))]
        scored = Scored(paths, classes[held], confidences[held], names, targets, labels)
        evaluation = _evaluated(plan, scored, seen.unreadable)
    return Training(
        output=plan.output,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        labels=labels,
        learnt=learnt,
        held_out=held_pictures,
        evaluation=evaluation,
        fitted=fitted,
        warnings=tuple(warnings),
        unreadable=seen.unreadable,
        runtime=embedder.runtime,
        agreement=agreement,
        seconds=time.monotonic() - start,
        twin=twin,
    )


def _twin_path(output: Path) -> Path:
    """`signs_edgetpu.tflite` and `signs.tflite` are answered for by `signs_cpu.tflite`."""
    return output.with_name(f"{output.stem.removesuffix('_edgetpu')}_cpu{output.suffix}")


def _refuse_keeping(plan: TrainingPlan, target: Extractor, names: Iterable[str]) -> None:
    """Raises UsageError where classes cannot stand beside the model's own."""
    if plan.method != "imprinting":
        raise UsageError("--keep-classes needs --method imprinting: regression needs pictures of every class")
    if target.labels is None or target.embedding.layer is None:
        raise UsageError(f"{plan.extractor}: has no classes; leave out --keep-classes or give a classifier")
    known = {label.casefold() for label in target.labels}
    again = next((name for name in names if name.casefold() in known), None)
    if again is not None:
        raise UsageError(f"{plan.source}: the model already has a class `{again}`; rename the folder or remove it")


def _copies(
    pictures: Sequence[Picture], embedder: Embedder, plan: TrainingPlan, progress: Progress
) -> tuple[NDArray[np.float32], int]:
    """Shape (pictures, copies, columns), and how many of them are mirrored; none for imprinting."""
    count = min(_MOST_COPIES, max(1, _LOOKS // len(pictures))) if plan.augment is None else plan.augment
    if not count or plan.method != "regression":
        return np.empty((len(pictures), 0, 0), np.float32), 0
    mirrored = count // _MIRRORED
    random = np.random.default_rng((plan.seed, 2))
    copies = []
    for number, picture in enumerate(pictures, 1):
        tensor = embedder.prepare(read_image(picture.path)).copy()
        copies.append(np.stack([embedder(varied(tensor, random, mirrored=at < mirrored)) for at in range(count)]))
        progress("looking at varied copies", number, len(pictures))
    return np.stack(copies), mirrored


def _fit(plan: TrainingPlan, examples: Examples, target: Extractor) -> Fitted:
    if plan.keep_classes:
        try:
            return extend(examples, *last_layer(target.graph, target.embedding))
        except ModelError as error:
            raise ModelError(f"{target.path}: {error}") from error
    return imprint(examples) if plan.method == "imprinting" else fit_head(examples, plan.seed)


def _nothing_held_out(plan: TrainingPlan) -> str:
    why = "as --holdout 0 wants it"
    if plan.holdout > 0:
        why = f"no class has enough different pictures to give {plan.holdout:.0%} of them; add pictures"
    return f"nothing will be held out, so how good the model is will not be measured: {why}"


def _learnt_hashes(plan: TrainingPlan, learnt: Iterable[Picture]) -> bytes:
    """What the file says about its pictures, those of the classes that are kept included."""
    kept = learnt_by(plan.extractor) if plan.keep_classes else frozenset()
    return packed([*kept, *(picture_hash(one.path) for one in learnt)])


def _about(plan: TrainingPlan, path: Path, target: Extractor, labels: tuple[str, ...], hashes: bytes) -> About:
    kept = f"the {len(target.labels or ()):,} classes of it and {len(labels) - len(target.labels or ()):,} new ones"
    what = kept if plan.keep_classes else f"{len(labels):,} classes"
    description = f"Classifies pictures into {what}: a head learnt by {plan.method} on {target.path.name}."
    files = ((ARCHIVED_AS, hashes),)
    return About(path.stem, description, labels, target.normalisation, target.metadata.licence, files)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a model in use is never seen half-written."""
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
    """Run the written file on some pictures and compare; raises InferenceError when it says something else."""
    bundle = load_bundle(path)
    classifier = make_classifier(bundle, "cpu", plan.threads)
    prepare = Preprocessor(bundle.input, bundle.normalisation, fit=plan.fit, crop_fraction=plan.crop_fraction)
    worst = 0.0
    for at in range(0, len(pictures), -(-len(pictures) // _CHECKED)):
        said = classifier.classify(prepare(read_image(pictures[at].path))).confidences
        worst = max(worst, float(np.abs(said - confidences[at]).max()))
    classifier.close()
    if worst > _AGREEMENT:
        raise InferenceError(
            f"{path}: its scores are off by up to {worst:.4f} from what was learnt, in {classifier.runtime}; "
            "do not use it, and report this"
        )
    return worst


def _evaluated(plan: TrainingPlan, scored: Scored, unreadable: tuple[str, ...]) -> Evaluation:
    sweeps = sweeps_of(scored)
    return dataclasses.replace(evaluate(plan.output.stem, scored, sweeps=sweeps), unreadable=unreadable)
