"""Draws the plots of the report as SVG; the colours are defined in `report.css`."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.thresholds import Sweep

_MOST_LETTERS: Final = 14


def confusion_matrix(one: Evaluation) -> str:
    """Draw true classes in rows and predicted ones in columns; the strength of the colour is the share of the row."""
    names = [score.name for score in one.per_class]
    others = any(pair.predicted not in set(names) for pair in one.confusions)
    columns = [*names, "other"] if others else names
    counts = {(score.name, score.name): round(score.recall * score.images) for score in one.per_class}
    for pair in one.confusions:
        key = (pair.truth, pair.predicted if pair.predicted in names else "other")
        counts[key] = counts.get(key, 0) + pair.count
    sizes = {score.name: score.images for score in one.per_class}
    cell = max(14, min(36, 400 // len(columns)))
    margin = 8 + 7 * min(_MOST_LETTERS, max(len(name) for name in names))
    width, height = margin + cell * len(columns) + 4, margin + cell * len(names) + 4
    parts = [f"<svg viewBox='0 0 {width} {height}' role=img aria-label='confusion matrix'>"]
    for column, name in enumerate(columns):
        x = margin + (column + 0.5) * cell
        short = len(name) * 7 <= cell
        turn = "" if short else f" transform='rotate(-60 {x:.0f} {margin - 6})'"
        anchor = "middle" if short else "start"
        parts.append(f"<text x={x:.0f} y={margin - 6} text-anchor={anchor}{turn}>{_short(name)}</text>")
    for row, truth in enumerate(names):
        y = margin + row * cell
        parts.append(f"<text x={margin - 6} y={y + cell / 2 + 4:.0f} text-anchor=end>{_short(truth)}</text>")
        for column, taken in enumerate(columns):
            count = counts.get((truth, taken), 0)
            parts.append(_cell((margin + column * cell, y, cell), count, sizes[truth], truth, taken))
    return "".join([*parts, "</svg>"])


def _cell(place: tuple[int, int, int], count: int, of: int, truth: str, taken: str) -> str:
    x, y, side = place
    share = count / of
    hue = "fill" if truth == taken else "wrong"
    shown = 0.06 if not count else 0.25 + 0.75 * share if hue == "wrong" else 0.15 + 0.85 * share
    hue = hue if count else "fill"
    box = (
        f"<rect x={x} y={y} width={side - 2} height={side - 2} rx=3 class={hue} fill-opacity={shown:.2f}>"
        f"<title>{escape(truth)} taken for {escape(taken)}: {count} of {of}</title></rect>"
    )
    if not count or side < 18:
        return box
    ink = "inverse" if shown > 0.55 else "on"
    middle = f"x={x + side / 2 - 1:.0f} y={y + side / 2 + 3:.0f}"
    return box + f"<text {middle} text-anchor=middle class={ink}>{count}</text>"


def reliability(one: Evaluation) -> str:
    """Draw accuracy over confidence (ideal on the dashed line), and the number of pictures in each tenth below."""
    left, top, side, histogram = 36, 10, 340, 56
    bottom = top + side
    most = max(bin_.images for bin_ in one.bins)
    step = side / len(one.bins)
    box = f"0 0 {left + side + 12} {bottom + histogram + 52}"
    parts = [f"<svg viewBox='{box}' role=img aria-label='reliability curve'>"]
    for tenth in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - tenth * side
        parts.append(f"<line class=grid x1={left} x2={left + side} y1={y:.0f} y2={y:.0f} />")
        parts.append(f"<text x={left - 6} y={y + 4:.0f} text-anchor=end>{tenth:.0%}</text>")
    for number, bin_ in enumerate(one.bins):
        if not bin_.images:
            continue
        x = left + number * step
        tall = bin_.accuracy * side
        parts.append(
            f"<rect class=fill fill-opacity=.8 x={x + 2:.1f} y={bottom - tall:.1f} width={step - 4:.1f} "
            f"height={tall:.1f} rx=2>"
            f"<title>confidence {bin_.confidence:.0%}: right {bin_.accuracy:.0%} of {bin_.images}</title></rect>"
        )
        share = bin_.images / most * (histogram - 14)
        parts.append(
            f"<rect class=fill fill-opacity=.35 x={x + 2:.1f} y={bottom + 12} width={step - 4:.1f} "
            f"height={share:.1f} rx=2 />"
            f"<text x={x + step / 2:.1f} y={bottom + 24 + share:.1f} text-anchor=middle>{bin_.images}</text>"
        )
    parts.append(f"<line class=ideal x1={left} y1={bottom} x2={left + side} y2={top} />")
    end = bottom + histogram + 44
    parts.append(f"<text x={left} y={end}>0 %</text><text x={left + side} y={end} text-anchor=end>100 %</text>")
    middle = left + side / 2
    parts.append(f"<text x={middle} y={end} text-anchor=middle>confidence; pictures in each tenth</text></svg>")
    return "".join(parts)


def threshold_sweep(one: Sweep) -> str:
    """Draw precision and recall over the threshold, with a mark at the recommended threshold."""
    left, top, width, height = 38, 8, 250, 120
    bottom = top + height

    def at(threshold: float, share: float) -> str:
        return f"{left + threshold * width:.1f},{bottom - share * height:.1f}"

    precision = " ".join(at(point.threshold, point.precision) for point in one.points if point.precision is not None)
    recall = " ".join(at(point.threshold, point.recall) for point in one.points)
    parts = [f"<svg viewBox='0 0 {left + width + 10} {bottom + 20}' role=img aria-label='threshold sweep'>"]
    for share in (0, 0.5, 1):
        y = bottom - share * height
        parts.append(f"<line class=grid x1={left} x2={left + width} y1={y:.0f} y2={y:.0f} />")
        parts.append(f"<text x={left - 5} y={y + 4:.0f} text-anchor=end>{share:.0%}</text>")
        parts.append(f"<text x={left + share * width:.0f} y={bottom + 15} text-anchor=middle>{share:g}</text>")
    if one.threshold is not None:
        x = left + one.threshold * width
        parts.append(f"<line class=mark x1={x:.1f} x2={x:.1f} y1={top} y2={bottom} />")
    parts.append(f"<polyline class='curve recall' points='{recall}' />")
    parts.append(f"<polyline class='curve precision' points='{precision}' /></svg>")
    return "".join(parts)


def _short(name: str) -> str:
    return escape(name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…")
