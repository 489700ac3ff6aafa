"""Writes an evaluation as one self-contained HTML page with plots (SVG) and pictures, in light and dark colours."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import SourceError, UsageError, counted
from edge_classifierd.frames.image import read_image
from edge_classifierd.frames.jpeg import encode_jpeg
from edge_classifierd.learning.report import plots
from edge_classifierd.learning.training_set import summarised
from edge_classifierd.preprocess import View

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_classifierd.learning.evaluate import Evaluation, Mistake
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.unrelated import FalseAlarms

_MATRIX_UP_TO: Final = 40
_CLASSES_SHOWN: Final = 60
_SWEEPS_SHOWN: Final = 24
_CONFUSIONS_SHOWN: Final = 15
_THUMBNAIL: Final = 160


@dataclass(frozen=True, slots=True)
class Page:
    """The head of the report."""

    title: str
    source: str
    facts: Sequence[str] = ()
    """Sentences, such as how the model was trained."""
    warnings: Sequence[str] = ()


def write_report(path: Path, page: Page, evaluations: Sequence[Evaluation]) -> None:
    """Write the page, with a comparison first where there are several evaluations. Raises UsageError."""
    try:
        path.write_text(render(page, evaluations), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def render(page: Page, evaluations: Sequence[Evaluation]) -> str:
    """Return the page as text. The pictures of the mistakes are read again and embedded as JPEGs 160 pixels wide."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(page.title)}</title><style>{_style()}</style><main>",
        f"<header><h1>{escape(page.title)}</h1><p class=sub>{escape(page.source)}</p>",
        *(f"<p>{escape(fact)}</p>" for fact in page.facts),
        *(f"<p class=warning>{escape(warning)}</p>" for warning in page.warnings),
        "</header>",
    ]
    if len(evaluations) > 1:
        parts.append(_side_by_side(evaluations))
    parts += [_model(evaluation, named=len(evaluations) > 1) for evaluation in evaluations]
    parts.append("<footer>Made by edge-classifierd. This file loads nothing from elsewhere.</footer></main></html>")
    return "\n".join(parts)


def _style() -> str:
    return resources.files("edge_classifierd.learning.report").joinpath("report.css").read_text(encoding="utf-8")


def _side_by_side(evaluations: Sequence[Evaluation]) -> str:
    best = max(evaluation.top1 for evaluation in evaluations)
    rows = "".join(
        f"<tr{' class=best' if one.top1 == best else ''}><th>{escape(one.model)}<td>{_bar(one.top1)}"
        f"<td>{one.balanced_accuracy:.1%}<td>{one.top5:.1%}"
        f"<td>{one.calibration_error:.3f}<td>{one.ambiguous:.1%}<td>{_milliseconds(one)}"
        for one in evaluations
    )
    head = "<tr><th>Model<th>Top-1<th>Balanced accuracy<th>Top-5<th>Calibration error<th>Ambiguous<th>Inference"
    return f"<section><h2>Side by side</h2><div class=scroll><table>{head}{rows}</table></div></section>"


def _model(one: Evaluation, *, named: bool) -> str:
    parts = [f"<h2 class=model>{escape(one.model)}</h2>" if named else "", _tiles(one)]
    if one.unreadable or one.left_out:
        parts.append(_not_counted(one))
    size = len(one.per_class)
    curve = f"{plots.reliability(one)}<p class=note>{_calibration(one)}</p>"
    pair = [f"<section><h2>Confidence and accuracy</h2>{curve}</section>"]
    if 1 < size <= _MATRIX_UP_TO:
        pair.insert(0, f"<section><h2>Confusion matrix</h2>{plots.confusion_matrix(one)}</section>")
    elif one.confusions:
        pair.insert(0, f"<section><h2>Most frequent confusions</h2>{_confusions(one)}</section>")
    parts.append(f"<div class=pair>{''.join(pair)}</div>")
    if one.sweeps:
        parts.append(_sweeps(one.sweeps))
    parts += [_false_alarms(alarms) for alarms in one.false_alarms]
    parts.append(_classes(one))
    if one.mistakes:
        parts.append(_mistakes(one.mistakes))
    return "\n".join(parts)


def _tiles(one: Evaluation) -> str:
    tiles = [
        (f"{one.top1:.1%}", "Top-1", "the best guess is right"),
        (f"{one.balanced_accuracy:.1%}", "Balanced accuracy", "mean recall of the classes"),
        (f"{one.top5:.1%}", "Top-5", "right class among the first five") if one.top5 > one.top1 else None,
        (f"{one.images:,}", "Pictures", f"of {counted(len(one.per_class), 'class')}"),
        (f"{one.calibration_error:.3f}", "Calibration error", "0 is best"),
        (f"{one.ambiguous:.1%}", "Ambiguous", f"lead under {one.ambiguity_margin:.0%}"),
        (_milliseconds(one), "Inference", "median on this machine") if one.inference_ms is not None else None,
    ]
    shown = "".join(
        f"<div class=tile><b>{big}</b>{what}<small>{note}</small></div>" for big, what, note in filter(None, tiles)
    )
    return f"<div class=tiles>{shown}</div>"


def _milliseconds(one: Evaluation) -> str:
    return "–" if one.inference_ms is None else f"{one.inference_ms:.1f} ms"


def _calibration(one: Evaluation) -> str:
    gap = one.mean_confidence - one.top1
    if abs(gap) < 0.02:
        return f"Mean confidence {one.mean_confidence:.1%}, accuracy {one.top1:.1%}: the confidences match."
    how = "confidences are too high, so thresholds must be higher" if gap > 0 else "confidences are too low"
    return f"Mean confidence {one.mean_confidence:.1%}, accuracy {one.top1:.1%}: {how}."


def _not_counted(one: Evaluation) -> str:
    sentences = []
    if one.unreadable:
        listed = "".join(f"<li>{escape(sentence)}" for sentence in summarised(one.unreadable)[:20])
        title = f"{counted(len(one.unreadable), 'picture')} could not be read"
        sentences.append(f"<details><summary>{title}</summary><ul>{listed}</ul></details>")
    if one.left_out:
        listed = ", ".join(escape(name) for name in one.left_out[:50])
        sentences.append(
            f"<details><summary>Left out: {counted(len(one.left_out), 'class')} that the model does not know</summary>"
            f"<p>{listed}</p></details>"
        )
    return f"<section class=warning>{''.join(sentences)}</section>"


def _confusions(one: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{escape(pair.truth)}<td>{escape(pair.predicted)}<td class=n>{pair.count}"
        for pair in one.confusions[:_CONFUSIONS_SHOWN]
    )
    return f"<div class=scroll><table><tr><th>Is<th>Was taken for<th>Times{rows}</table></div>"


def _sweeps(sweeps: Sequence[Sweep]) -> str:
    cards = "".join(
        f"<figure><figcaption><b>{escape(one.watch)}</b> {_recommendation(one)}</figcaption>"
        f"{plots.threshold_sweep(one)}</figure>"
        for one in sweeps[:_SWEEPS_SHOWN]
    )
    hidden = len(sweeps) - _SWEEPS_SHOWN
    more = f"<p class=note>{hidden} more are in the JSON.</p>" if hidden > 0 else ""
    legend = (
        "<p class=note><span class='key precision'></span> precision: share of the reports that are right &ensp;"
        "<span class='key recall'></span> recall: share of the pictures that are found &ensp;"
        "<span class='key mark'></span> recommended threshold, for a single frame</p>"
    )
    return f"<section><h2>Thresholds</h2>{legend}<div class=cards>{cards}</div>{more}</section>"


def _false_alarms(one: FalseAlarms) -> str:
    rows = "".join(
        f"<tr><th>{escape(alarms.name)}<td>{alarms.threshold:.2f}<td>{_bar(alarms.count / one.pictures)}"
        f"<td class=n>{alarms.count}"
        for alarms in one.per_class
    )
    return (
        f"<section><h2>False alarms on {one.pictures} {escape(one.source)}</h2>"
        f"<p class=note>{counted(one.any_class, 'picture')} reached the threshold of a class; none was learnt from.</p>"
        f"<div class=scroll><table><tr><th>Class<th>Threshold<th>Share<th>Pictures{rows}</table></div></section>"
    )


def _recommendation(one: Sweep) -> str:
    if one.threshold is None:
        return escape(one.reason)
    return (
        f"threshold {one.threshold:.2f}, release {one.release:.2f}<br><small>precision {one.precision:.0%}, "
        f"recall {one.recall:.0%}; {escape(one.reason)}</small>"
    )


def _classes(one: Evaluation) -> str:
    worst = sorted(one.per_class, key=lambda score: (score.recall, score.precision or 0.0))
    rows = "".join(
        f"<tr><th>{escape(score.name)}<td class=n>{score.images}<td>{_bar(score.recall)}"
        f"<td>{'–' if score.precision is None else _bar(score.precision)}"
        for score in worst[:_CLASSES_SHOWN]
    )
    hidden = len(worst) - _CLASSES_SHOWN
    more = f"<p class=note>The {hidden} best are not shown.</p>" if hidden > 0 else ""
    return (
        "<section><h2>Class by class, weakest first</h2><div class=scroll><table>"
        f"<tr><th>Class<th>Pictures<th>Recall<th>Precision{rows}</table></div>{more}</section>"
    )


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    cards = "".join(
        f"<figure>{_thumbnail(one.path)}<figcaption><b>{escape(one.predicted)}</b> {one.confidence:.0%}"
        f"<small>is {escape(one.truth)} ({one.truth_confidence:.0%})<br>{escape(one.path.name)}</small></figcaption>"
        "</figure>"
        for one in mistakes
    )
    return f"<section><h2>Most confident mistakes</h2><div class='cards pictures'>{cards}</div></section>"


def _thumbnail(path: Path) -> str:
    try:
        jpeg = encode_jpeg(read_image(path), View(), max_width=_THUMBNAIL, quality=75)
    except SourceError:
        return "<div class=gone>no longer readable</div>"
    return f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'>"


def _bar(share: float) -> str:
    return f"<span class=bar><i style='width:{share:.1%}'></i></span>{share:.1%}"
