"""Prints evaluations in the terminal, and shows the progress of commands that read many pictures."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from edge_classifierd.cli.streams import show
from edge_classifierd.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from edge_classifierd.learning.evaluate import Evaluation
    from edge_classifierd.learning.thresholds import Sweep
    from edge_classifierd.learning.unrelated import FalseAlarms

_CLASSES: Final = 12
_CONFUSIONS: Final = 5
_WIDEST: Final = 1000


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function (step, done, total) that shows progress on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done)

        yield update


def print_table(table: Table) -> None:
    """Print a table on stdout. A terminal that is too narrow wraps the lines; no name or figure is shortened."""
    from rich.console import Console
    from rich.measure import Measurement

    for column in table.columns:
        column._cells = [printable(cell) if isinstance(cell, str) else cell for cell in column.cells]
    console = Console()
    needed = Measurement.get(console, console.options.update(width=_WIDEST), table).maximum
    Console(width=max(console.width, needed)).print(table, markup=False, highlight=False)


def print_evaluations(evaluations: list[Evaluation]) -> None:
    """Print one line per model on stdout, then the classes, confusions and thresholds of each."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "pictures", "top-1", "balanced", "top-5", "calibration error", "ambiguous", "inference"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for one in evaluations:
        inference = "" if one.inference_ms is None else f"{one.inference_ms:.1f} ms"
        error, ambiguous = f"{one.calibration_error:.3f}", f"{one.ambiguous:.1%}"
        shares = (f"{share:.1%}" for share in (one.top1, one.balanced_accuracy, one.top5))
        table.add_row(one.model, f"{one.images:,}", *shares, error, ambiguous, inference)
    print_table(table)
    for one in evaluations:
        _print_details(console.print, one, named=len(evaluations) > 1)


def _print_details(show: Callable[..., None], one: Evaluation, *, named: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    if named:
        show(f"\n[bold]{escape(printable(one.model))}[/bold]")
    show()
    weakest = sorted(one.per_class, key=lambda score: (score.recall, score.precision or 0.0))
    classes = Table(box=None, pad_edge=False)
    classes.add_column("class, weakest first" if len(weakest) > 1 else "class")
    for heading in ("pictures", "recall", "precision"):
        classes.add_column(heading, justify="right")
    for score in weakest[:_CLASSES]:
        precision = "–" if score.precision is None else f"{score.precision:.1%}"
        classes.add_row(score.name, str(score.images), f"{score.recall:.1%}", precision)
    print_table(classes)
    if len(weakest) > _CLASSES:
        show(f"… and {len(weakest) - _CLASSES} better ones (all with --json or --report)")
    for pair in one.confusions[:_CONFUSIONS]:
        show(
            f"{pair.count} × {escape(printable(pair.truth))} taken for {escape(printable(pair.predicted))}",
            highlight=False,
        )
    print_thresholds(one.sweeps)


def print_thresholds(sweeps: Sequence[Sweep]) -> None:
    """Print the recommended thresholds, if there are any."""
    from rich.table import Table

    recommended = [sweep for sweep in sweeps if sweep.threshold is not None]
    if not recommended:
        return
    show("")
    watches = Table(box=None, pad_edge=False)
    watches.add_column("watch")
    for heading in ("threshold", "release", "precision", "recall"):
        watches.add_column(heading, justify="right")
    for sweep in recommended[:_CLASSES]:
        release, precision, recall = f"{sweep.release:.2f}", f"{sweep.precision:.0%}", f"{sweep.recall:.0%}"
        watches.add_row(printable(sweep.watch), f"{sweep.threshold:.2f}", release, precision, recall)
    print_table(watches)
    if len(recommended) > _CLASSES:
        show(f"… and {len(recommended) - _CLASSES} more (all with --json or --report)")


def print_false_alarms(one: FalseAlarms) -> None:
    """Print how many unrelated pictures reached the threshold of each class."""
    from edge_classifierd.learning.unrelated import BUILT_IN, BUILT_IN_REMARK

    worst = sorted((alarms for alarms in one.per_class if alarms.count), key=lambda alarms: -alarms.count)
    classes = ", ".join(f"{printable(alarms.name)} {alarms.count}" for alarms in worst[:_CLASSES])
    show(f"\nfalse alarms: {one.any_class} of {one.pictures} {one.source}{f' ({classes})' if classes else ''}")
    if one.source == BUILT_IN:
        show(BUILT_IN_REMARK)
