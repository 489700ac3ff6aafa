from __future__ import annotations

import numpy as np

from edge_classifierd.learning.head_fitting import Examples, apply, fit_head
from edge_classifierd.learning.other_kinds import kind_directions, with_other_kinds

_KINDS, _FEATURES = 120, 40


def extractor() -> np.ndarray:
    """The last layer of a classifier with 120 kinds in 12 families of ten, whose directions are alike."""
    random = np.random.default_rng(3)
    families = np.repeat(random.normal(0, 1, (_KINDS // 10, _FEATURES)), 10, 0)
    return (families + random.normal(0, 0.4, (_KINDS, _FEATURES))).astype(np.float32)


def recognised(kinds: np.ndarray) -> np.ndarray:
    """Logits of pictures in each of which one kind is recognised."""
    return (10.0 * (kinds[:, None] == np.arange(_KINDS))).astype(np.float32)


def taught(informative: float, seed: int = 0) -> tuple[Examples, np.ndarray]:
    """Two classes, of the first and the second family, and `unknown`, of the last six; logits of what is recognised.

    The embeddings separate the classes the better, the greater `informative` is.
    """
    random = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2], [8, 8, 30])
    kinds = np.where(y < 2, y * 10 + random.integers(0, 5, len(y)), random.integers(60, 120, len(y)))
    x = np.abs(informative * (y[:, None] == np.arange(30) % 3) + random.normal(0, 1, (len(y), 30))).astype(np.float32)
    none = np.empty((len(y), 0, 30), np.float32)
    return Examples(x, none, 0, y, np.arange(len(y)), 3, 30), recognised(kinds)


def test_an_object_that_the_extractor_recognises_as_another_kind_gets_a_low_score() -> None:
    examples, logits = taught(1.0)
    directions = kind_directions(extractor())
    assert directions is not None
    plain = fit_head(examples, 0)
    fitted = with_other_kinds(plain, examples, logits, directions, unknown=2, seed=0)
    assert fitted.head.other_kinds is not None
    looks_like_the_first = examples.originals[:8]
    others, relatives = recognised(np.arange(40, 48)), recognised(np.array([5, 6, 7, 8, 9, 5, 6, 7]))
    as_others = apply(fitted.head, np.concatenate([looks_like_the_first, others], 1))[:, 0]
    as_relatives = apply(fitted.head, np.concatenate([looks_like_the_first, relatives], 1))[:, 0]
    before = apply(plain.head, looks_like_the_first)[:, 0]
    assert as_others.mean() < 0.3 * before.mean()
    assert as_relatives.mean() > before.mean()


def test_the_probabilities_in_cross_validation_include_the_other_kinds() -> None:
    examples, logits = taught(1.0)
    directions = kind_directions(extractor())
    assert directions is not None
    plain = fit_head(examples, 0)
    fitted = with_other_kinds(plain, examples, logits, directions, unknown=2, seed=0)
    assert plain.validation is not None
    assert fitted.validation is not None
    right = np.arange(len(examples.classes)), examples.classes
    assert np.log(fitted.validation[right]).mean() > np.log(plain.validation[right]).mean()
    assert np.allclose(fitted.validation.sum(1), 1)


def test_kinds_that_say_nothing_about_the_classes_leave_the_head_unchanged() -> None:
    examples, logits = taught(6.0)
    directions = kind_directions(extractor())
    assert directions is not None
    plain = fit_head(examples, 0)
    shuffled = logits[np.random.default_rng(1).permutation(len(logits))]
    assert with_other_kinds(plain, examples, shuffled, directions, unknown=2, seed=0) is plain


def test_a_classifier_of_few_classes_has_no_directions_of_kinds() -> None:
    assert kind_directions(extractor()[:99]) is None
