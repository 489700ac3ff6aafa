"""Evaluations and trainings as JSON values; shares and accuracies are fractions, 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.train import Training
    from edge_classifierd.learning.unrelated import FalseAlarms

_DIGITS: Final = 6
_EVERY: Final = 5  # of the points of a sweep: 0.05, 0.1 …


def evaluation_document(one: Evaluation) -> dict[str, object]:
    """Return everything but the pictures: `images`, `top1`, `balanced_accuracy`, `per_class`, `watches` and so on."""
    return {
        "model": one.model,
        "images": one.images,
        "top1": _rounded(one.top1),
        "balanced_accuracy": _rounded(one.balanced_accuracy),
        "top5": _rounded(one.top5),
        "per_class": {
            score.name: {
                "images": score.images,
                "recall": _rounded(score.recall),
                "precision": None if score.precision is None else _rounded(score.precision),
            }
            for score in one.per_class
        },
        "confusions": [
            {"truth": pair.truth, "predicted": pair.predicted, "count": pair.count} for pair in one.confusions
        ],
        "calibration": {
            "expected_error": _rounded(one.calibration_error),
            "mean_confidence": _rounded(one.mean_confidence),
            "bins": [
                {"images": bin_.images, "confidence": _rounded(bin_.confidence), "accuracy": _rounded(bin_.accuracy)}
                for bin_ in one.bins
            ],
        },
        "ambiguous": _rounded(one.ambiguous),
        "ambiguity_margin": one.ambiguity_margin,
        "watches": [_sweep(sweep) for sweep in one.sweeps],
        "mistakes": [
            {
                "file": str(mistake.path),
                "truth": mistake.truth,
                "predicted": mistake.predicted,
                "confidence": _rounded(mistake.confidence),
                "truth_confidence": _rounded(mistake.truth_confidence),
            }
            for mistake in one.mistakes
        ],
        "unreadable": list(one.unreadable),
        "left_out": list(one.left_out),
        "images_learnt": one.learnt,
        "inference_ms": None if one.inference_ms is None else round(one.inference_ms, 3),
    }


def training_document(one: Training) -> dict[str, object]:
    """Return what was written, how it was trained, and the evaluation on the pictures held out (null without any)."""
    accuracy = one.fitted.validation_accuracy
    return {
        "output": str(one.output),
        "cpu_twin": None if one.twin is None else str(one.twin),
        "sha256": one.sha256,
        "bytes": one.size,
        "labels": len(one.labels),
        "classes": list(one.labels[-one.fitted.head.weights.shape[0] :]),
        "images_learnt": len(one.learnt),
        "images_held_out": len(one.held_out),
        "built_in_unknown": one.built_in_unknown,
        "watches": [_sweep(sweep) for sweep in one.sweeps],
        "false_alarms": [_false_alarms(alarms) for alarms in one.false_alarms],
        "evaluation": None if one.evaluation is None else evaluation_document(one.evaluation),
        "embedding": one.fitted.head.pooling,
        "copies": one.fitted.copies,
        "regularisation": one.fitted.strength,
        "temperature": _rounded(one.fitted.temperature),
        "validation_accuracy": None if accuracy is None else _rounded(accuracy),
        "agreement": one.agreement,
        "runtime": one.runtime,
        "warnings": list(one.warnings),
        "unreadable": list(one.unreadable),
        "seconds": round(one.seconds, 2),
    }


def _false_alarms(one: FalseAlarms) -> dict[str, object]:
    return {
        "pictures_of": one.source,
        "images": one.pictures,
        "any_class": one.any_class,
        "per_class": {alarms.name: {"threshold": alarms.threshold, "count": alarms.count} for alarms in one.per_class},
    }


def _sweep(one: Sweep) -> dict[str, object]:
    return {
        "watch": one.watch,
        "positives": one.positives,
        "threshold": one.threshold,
        "release": one.release,
        "precision": None if one.precision is None else _rounded(one.precision),
        "recall": None if one.recall is None else _rounded(one.recall),
        "reason": one.reason,
        "points": [
            {
                "threshold": point.threshold,
                "precision": None if point.precision is None else _rounded(point.precision),
                "recall": _rounded(point.recall),
            }
            for point in one.points[_EVERY - 1 :: _EVERY]
        ],
    }


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
