from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_classifierd.learning import head_fitting
from edge_classifierd.learning.head_fitting import Examples, apply, class_weights, fit_head
from edge_classifierd.learning.imprint import extend, imprint
from edge_classifierd.learning.regression import Sums, cross_entropy, softmax, temperature


def clouds(
    count: int, classes: int = 3, features: int = 40, *, spread: float = 0.6, seed: int = 0, filled: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (never negative) around one centre per class, of whose features the share `filled` is not zero."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    centres = fixed.gamma(1.0, 1.0, (classes, features)) * (fixed.random((classes, features)) < filled)
    labels = np.repeat(np.arange(classes), count)
    return np.abs(centres[labels] + random.normal(0, spread, (len(labels), features))).astype(np.float32), labels


def examples(
    x: np.ndarray, y: np.ndarray, channels: int | None = None, copies: np.ndarray | None = None, mirrored: int = 0
) -> Examples:
    none = np.empty((len(x), 0, x.shape[1]), np.float32)
    given = none if copies is None else copies
    return Examples(x, given, mirrored, y, np.arange(len(x)), int(y.max()) + 1, channels or x.shape[1])


def test_the_layer_is_where_the_gradient_of_the_squares_vanishes() -> None:
    x, y = clouds(10)
    x = x.astype(np.float64)
    weight = class_weights(y, 3)
    sums = Sums.of(x, y, weight, 3)
    (layer,) = sums.solve(0.05)
    wrong = layer.logits(x) - 20 * np.eye(3)[y]
    variance = float(weight @ ((x - weight @ x) ** 2).mean(1))
    assert np.abs((wrong * weight[:, None]).T @ x + 0.05 * variance * layer.weights).max() < 1e-9
    assert np.abs((wrong * weight[:, None]).sum(0)).max() < 1e-9


def test_sums_without_some_examples_are_the_sums_of_the_others() -> None:
    x, y = clouds(10)
    x, weight, some = x.astype(np.float64), class_weights(y, 3), np.arange(30) % 3 == 0
    every, left, others = (Sums.of(x[at], y[at], weight[at], 3) for at in (some | True, some, ~some))
    for one, other in zip(every.without(left).solve(0.1, 1.0), others.solve(0.1, 1.0), strict=True):
        assert one.weights == pytest.approx(other.weights)
        assert one.bias == pytest.approx(other.bias)


def test_strengths_are_solved_one_by_one_or_together() -> None:
    x, y = clouds(10)
    weight = class_weights(y, 3)
    sums = [Sums.of(x.astype(np.float64), y, weight, 3) for _ in range(3)]
    together, alone = [*sums[0].solve(0.1, 1.0)], [*sums[1].solve(0.1), *sums[2].solve(1.0)]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_classes_weigh_alike_however_many_pictures_they_have() -> None:
    y = np.array([0] * 90 + [1] * 10)
    weight = class_weights(y, 2)
    assert weight[y == 0].sum() == pytest.approx(0.5)
    assert weight.sum() == pytest.approx(1)


def test_the_temperature_undoes_a_false_scale() -> None:
    random = np.random.default_rng(0)
    honest = random.normal(0, 2, (4000, 3))
    y = np.array([random.choice(3, p=row) for row in softmax(honest)])
    weight = np.full(len(y), 1 / len(y))
    assert temperature(honest * 5, y, weight) == pytest.approx(5, rel=0.1)
    assert cross_entropy(honest, y, weight) < cross_entropy(honest * 5, y, weight)


def test_a_few_pictures_without_a_mistake_do_not_make_it_certain() -> None:
    separated = np.array([[4.0, 0.0], [0.0, 4.0]] * 5)
    y, weight = np.array([0, 1] * 5), np.full(10, 0.1)
    sure = softmax(separated / temperature(separated, y, weight)).max(1)
    assert 0.9 < sure[0] < 0.97


def test_a_fitted_head_recognises_new_pictures_with_honest_confidence() -> None:
    x, y = clouds(30, spread=1.2)
    fitted = fit_head(examples(x, y), seed=0)
    fresh, truth = clouds(200, spread=1.2, seed=5)
    scores = apply(fitted.head, fresh)
    accuracy = float((scores.argmax(1) == truth).mean())
    assert accuracy > 0.9
    assert abs(float(scores.max(1).mean()) - accuracy) < 0.05
    assert fitted.validation_accuracy == pytest.approx(accuracy, abs=0.1)
    assert scores.sum(1) == pytest.approx(1, abs=1e-5)


def test_the_same_seed_gives_the_same_head() -> None:
    x, y = clouds(12)
    one, other = (fit_head(examples(x, y), seed=4).head for _ in range(2))
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.bias.tobytes() == other.bias.tobytes()


def test_details_are_used_where_they_tell_classes_apart_and_left_where_they_do_not() -> None:
    x, y = clouds(20, spread=0.5)
    noise = np.abs(np.random.default_rng(3).normal(0, 1, x.shape)).astype(np.float32)
    telling = np.concatenate([noise, np.tile(x, 9)], 1)
    assert fit_head(examples(telling, y, channels=40), seed=0).head.pooling == "detail"
    misleading = np.concatenate([x, np.tile(noise, (1, 9))], 1)
    assert fit_head(examples(misleading, y, channels=40), seed=0).head.pooling == "mean"


def test_copies_are_used_where_they_help() -> None:
    x, y = clouds(5, spread=1.5)
    more, _ = clouds(5 * 6, spread=1.5, seed=9)
    copies = more.reshape(3, 5, 6, -1).reshape(15, 6, -1)
    assert fit_head(examples(x, y, copies=copies), seed=0).copies == "unmirrored"
    assert fit_head(examples(x, y, copies=copies, mirrored=4), seed=0).copies == "all"
    junk = np.abs(np.random.default_rng(1).normal(0, 3, copies.shape)).astype(np.float32)
    assert fit_head(examples(x, y, copies=junk), seed=0).copies == "none"
    first_are_junk = np.concatenate([junk[:, :3], copies], 1)
    assert fit_head(examples(x, y, copies=first_are_junk, mirrored=3), seed=0).copies == "unmirrored"


def test_embeddings_with_negative_numbers_get_no_square_root() -> None:
    x, y = clouds(10)
    fitted = fit_head(examples(x - 1, y), seed=0)
    assert not fitted.head.square_root
    assert (apply(fitted.head, x - 1).argmax(1) == y).mean() > 0.9


def test_a_class_of_one_picture_is_learnt_without_validation() -> None:
    x, y = clouds(6)
    keep = np.array([0, *range(6, 18)])
    fitted = fit_head(examples(x[keep], y[keep]), seed=0)
    assert fitted.validation_accuracy is None
    fresh, truth = clouds(20, seed=5)
    assert (apply(fitted.head, fresh).argmax(1) == truth).mean() > 0.8


def test_prototypes_work_from_one_picture_a_class() -> None:
    x, y = clouds(1)
    fresh, truth = clouds(50, seed=5)
    fitted = imprint(examples(x, y))
    assert fitted.validation_accuracy is None
    assert (apply(fitted.head, fresh).argmax(1) == truth).mean() > 0.9
    several = imprint(examples(*clouds(5)))
    scores = apply(several.head, fresh)
    assert (scores.argmax(1) == truth).mean() > 0.95
    assert scores.max(1).mean() > 0.8


def test_added_classes_win_for_their_pictures_and_take_none_of_the_others() -> None:
    x, y = clouds(100, classes=12, features=300, spread=0.2, filled=0.15)
    old = y < 10
    (layer,) = Sums.of(x[old].astype(np.float64), y[old], class_weights(y[old], 10), 10).solve(0.01)
    weights, bias = layer.weights.astype(np.float32), layer.bias.astype(np.float32)
    new = np.concatenate([np.flatnonzero(y == 10)[:4], np.flatnonzero(y == 11)[:4]])
    fitted = extend(examples(x[new], y[new] - 10), weights, bias)
    fresh, truth = clouds(50, classes=12, features=300, spread=0.2, filled=0.15, seed=8)
    before = (apply(fitted.head, fresh[truth < 10])[:, :10].argmax(1) == truth[truth < 10]).mean()
    predicted = apply(fitted.head, fresh).argmax(1)
    assert (predicted[truth < 10] == truth[truth < 10]).mean() >= before - 0.01
    assert (predicted[truth >= 10] == truth[truth >= 10]).mean() > 0.95


def test_the_temperature_is_in_the_head_and_not_only_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds(12, spread=2.5)
    monkeypatch.setattr(head_fitting, "_STRENGTHS", (1.0,))
    plain = fit_head(examples(x, y), seed=0)
    monkeypatch.setattr(head_fitting, "temperature", lambda *_: 3 * plain.temperature)
    warm = fit_head(examples(x, y), seed=0)
    monkeypatch.setattr(head_fitting, "temperature", lambda *_: 6 * plain.temperature)
    warmer = fit_head(examples(x, y), seed=0)
    assert warm.head.weights == pytest.approx(2 * warmer.head.weights, abs=1e-5)
    assert warm.head.bias == pytest.approx(2 * warmer.head.bias, abs=1e-4)


def test_the_strength_with_the_least_loss_is_taken() -> None:
    x, y = clouds(6, spread=3.0)
    assert fit_head(examples(x, y), seed=0).strength == 1.0
    many, truth = clouds(200, features=6, spread=0.3)
    assert fit_head(examples(many, truth), seed=0).strength < 1.0


def test_near_duplicates_never_judge_one_another() -> None:
    x, y = clouds(6)
    one = examples(x, y)
    together = dataclasses.replace(one, groups=y.copy())  # each class is one group: nothing can be left out
    assert fit_head(together, seed=0).validation_accuracy is None
    assert fit_head(one, seed=0).validation_accuracy is not None
