"""Finds the preprocessing of a model by trying the usual ones on pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from edge_classifierd.errors import InferenceError, SourceError, UsageError
from edge_classifierd.frames.image import read_image
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.learning.class_matching import match_classes
from edge_classifierd.learning.dataset import Dataset, images_below, read_dataset
from edge_classifierd.model.normalisation import IMAGENET, RANGE_NAMES
from edge_classifierd.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.inference.base import Classifier
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.tflite.metadata import Normalisation
    from edge_classifierd.preprocess import Fit, Tensor

T = TypeVar("T")

MAX_PICTURES: Final = 200
_LEAST_PICTURES: Final = 8
_CHANGES: Final = ((1.0, 1.0), (0.93, 1.0), (0.86, 1.0), (1.0, 0.8), (1.0, 1.2))
"""Small changes of a picture: the side of the crop and the brightness."""
_LEAST_PROBABILITY: Final = 1e-4
_CLEAR: Final = 2.0
"""Standard errors between two candidates: about 5 % of equal ones differ as much by chance."""


@dataclass(frozen=True, slots=True)
class ScoredPreprocessing:
    """One preprocessing and its results."""

    name: str
    """`[0, 1], RGB`."""
    normalisation: Normalisation
    accuracy: float | None
    """Share of labelled pictures whose best label is right; None without labels."""
    confidence: float
    """Mean confidence of the best label."""
    agreement: float
    """Share of changed pictures whose best label is that of the unchanged picture."""
    labels: int
    """Number of different best labels."""
    scores: NDArray[np.float64]
    """For each picture, in bits: the logarithm of the confidence in the right label. Without labels: of the confidence
    in the label that a changed picture gets, less that of the label's mean confidence. Pixels of a wrong range make a
    model either indifferent or too sure, and both cost here."""

    @property
    def score(self) -> float:
        """The mean of the scores."""
        return float(self.scores.mean())


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The candidates, best first."""

    candidates: tuple[ScoredPreprocessing, ...]
    pictures: int
    labelled: bool
    decided: bool
    sentence: str
    """The outcome and its reason."""


def probe(
    bundle: ModelBundle,
    sources: Sequence[Path],
    progress: Callable[[int, int], None],
    *,
    fit: Fit = "crop",
    threads: int = 2,
) -> ProbeResult:
    """Try the usual preprocessings of a model.

    Args:
        bundle: The model.
        sources: Picture files; or a folder of pictures; or one folder or table of labelled pictures as for `eval`.
        progress: Called with the number of pictures done and of all.
        fit: How pictures are fitted to the input.
        threads: Threads of one inference.

    Raises:
        UsageError: There are no pictures.
        ModelError, MissingError, InferenceError: The model cannot run.
    """
    paths, targets = _pictures(bundle, sources)
    choices = _choices(bundle)
    classifier = make_classifier(bundle, "auto", threads)
    outcomes: list[list[NDArray[np.float32]]] = [[] for _ in choices]
    kept: list[int] = []
    try:
        prepare = [
            [Preprocessor(bundle.input, _brighter(one, gain), fit=fit, crop_fraction=crop) for crop, gain in _CHANGES]
            for _, one in choices
        ]
        for number, path in enumerate(paths):
            try:
                picture = read_image(path)
            except SourceError:
                continue
            kept.append(number)
            for at, preprocessors in enumerate(prepare):
                outcomes[at].append(np.stack([_probabilities(classifier, one(picture)) for one in preprocessors]))
            progress(number + 1, len(paths))
    finally:
        classifier.close()
    if not kept:
        raise UsageError(f"{sources[0]}: none of its {len(paths):,} pictures can be read")
    wanted = None if targets is None else [targets[number] for number in kept]
    candidates = [
        _candidate(name, normalisation, np.stack(scores), wanted)
        for (name, normalisation), scores in zip(choices, outcomes, strict=True)
    ]
    candidates.sort(key=lambda one: -one.score)
    decided, sentence = _decide(candidates, len(kept), labelled=targets is not None)
    return ProbeResult(tuple(candidates), len(kept), targets is not None, decided, sentence)


def _pictures(bundle: ModelBundle, sources: Sequence[Path]) -> tuple[list[Path], list[tuple[int, ...]] | None]:
    """Return at most `MAX_PICTURES` pictures, spread evenly, and the right labels of each, None without labels."""
    if len(sources) == 1:
        try:
            dataset: Dataset | None = read_dataset(sources[0])
        except UsageError:
            dataset = None
        if dataset is not None:
            matching = match_classes(dataset, bundle.labels)
            known = _spread([one for one in dataset.pictures if one.class_name in matching.targets])
            return [one.path for one in known], [matching.targets[one.class_name] for one in known]
    found: list[Path] = []
    for source in sources:
        found.extend(images_below(source) if source.is_dir() else [source])
    if not found:
        raise UsageError(f"{sources[0]}: holds no pictures; give pictures of what the model recognises")
    return _spread(found), None


def _spread(pictures: Sequence[T]) -> list[T]:
    step = max(1, -(-len(pictures) // MAX_PICTURES))
    return list(pictures[::step])


def _choices(bundle: ModelBundle) -> list[tuple[str, Normalisation]]:
    """Return the preprocessings to try; a quantised input decides all but the order of the channels."""
    decided = bundle.normalisation
    bases: dict[str, Normalisation] = {}
    if bundle.input.dtype in {"uint8", "int8"}:
        bases["as the quantisation says"] = dataclasses.replace(decided, channels="rgb")
    else:
        bases = {name: known for known, name in RANGE_NAMES.items()}
        if all((known.mean, known.std) != (decided.mean, decided.std) for known in RANGE_NAMES):
            bases[f"as given or as {bundle.preparation.decided_by} says"] = dataclasses.replace(decided, channels="rgb")
    if bundle.input.layout.channels == 1:
        return [(name, one) for name, one in bases.items() if one != IMAGENET]
    return [
        (f"{name}, {order.upper()}", _ordered(one, order)) for name, one in bases.items() for order in ("rgb", "bgr")
    ]


def _ordered(normalisation: Normalisation, order: str) -> Normalisation:
    """Return a normalisation in RGB for the given order of the model's channels."""
    if order == "rgb":
        return normalisation
    mean, std = normalisation.mean[::-1], normalisation.std[::-1]
    return dataclasses.replace(normalisation, mean=mean, std=std, channels="bgr")


def _brighter(normalisation: Normalisation, gain: float) -> Normalisation:
    """Return the normalisation that multiplies each pixel by `gain` first."""
    mean, std = (tuple(value / gain for value in values) for values in (normalisation.mean, normalisation.std))
    return dataclasses.replace(normalisation, mean=mean, std=std)


def _probabilities(classifier: Classifier, tensor: Tensor) -> NDArray[np.float32]:
    """Return confidences that sum to 1, also those of a multi-label model; zeros where a wrong input gives NaN."""
    try:
        confidences = classifier.classify(tensor).confidences
    except InferenceError:
        return np.zeros(1, np.float32)
    return confidences / max(float(confidences.sum()), 1e-9)


def _candidate(
    name: str, normalisation: Normalisation, scores: NDArray[np.float32], targets: Sequence[tuple[int, ...]] | None
) -> ScoredPreprocessing:
    """Evaluate one preprocessing; `scores` has shape (pictures, changes, labels)."""
    probabilities = np.clip(scores.astype(np.float64), _LEAST_PROBABILITY, 1.0)
    best = scores.argmax(axis=2)
    accuracy = None
    if targets is None:
        mean = np.log2(probabilities[:, 0].mean(axis=0))
        own = np.log2(probabilities[:, 0])
        bits = (np.take_along_axis(own, best[:, 1:], axis=1) - mean[best[:, 1:]]).mean(axis=1)
    else:
        right = [sum(float(probabilities[at, 0, label]) for label in labels) for at, labels in enumerate(targets)]
        bits = np.log2(np.minimum(right, 1.0))
        accuracy = float(np.mean([top in labels for top, labels in zip(best[:, 0].tolist(), targets, strict=True)]))
    return ScoredPreprocessing(
        name=name,
        normalisation=normalisation,
        accuracy=accuracy,
        confidence=float(scores[:, 0].max(axis=1).mean()),
        agreement=float((best[:, 1:] == best[:, :1]).mean()),
        labels=len(np.unique(best[:, 0])),
        scores=bits,
    )


def _decide(candidates: list[ScoredPreprocessing], pictures: int, *, labelled: bool) -> tuple[bool, str]:
    """Return whether the best candidate is clearly better than others, and the sentence.

    Where RGB and BGR of the best range do alike, RGB is put first: far more models take it.
    """
    if pictures < _LEAST_PICTURES:
        return False, f"undecided: {pictures} pictures are too few; give {_LEAST_PICTURES} or more, better 50"
    best = candidates[0]
    order = ""
    for place, other in enumerate(candidates[1:], 1):
        if _is_clear(best, other):
            continue
        if not _same_range(best.normalisation, other.normalisation):
            more = "" if labelled else ", best in one folder for each label"
            return False, f"undecided between {best.name} and {other.name}; give more pictures{more}"
        order = "; RGB and BGR do alike"
        if best.normalisation.channels == "bgr":
            candidates.insert(0, candidates.pop(place))
            best = candidates[0]
    return True, f"{best.name}{order}"


def _same_range(one: Normalisation, other: Normalisation) -> bool:
    """Return whether they differ at most in the order of the channels."""
    return one.mean in {other.mean, other.mean[::-1]} and one.std in {other.std, other.std[::-1]}


def _is_clear(best: ScoredPreprocessing, other: ScoredPreprocessing) -> bool:
    """Return whether `best` is better by more than chance, picture by picture."""
    difference = best.scores - other.scores
    error = float(difference.std(ddof=1)) / len(difference) ** 0.5
    return bool(difference.mean() > _CLEAR * max(error, 1e-6))
