"""Reads models, classes and pictures from the index's rows; every function runs inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from edge_classifierd.errors import shortened
from edge_classifierd.teaching.advice import class_advice, is_enough, missing
from edge_classifierd.teaching.records import (
    BIN,
    TO_SORT,
    UNKNOWN,
    Guess,
    NotTaughtError,
    TaughtClass,
    TaughtModel,
    TaughtPicture,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_PICTURE = "id, class, binned_ms, recording, look, source, captured_ms, guess, confidence"


@dataclass(frozen=True, slots=True)
class ModelTransaction:
    """A transaction that changes one model."""

    connection: sqlite3.Connection
    model: int
    """The model's key."""
    name: str
    now_ms: int
    """The time."""


def milliseconds(moment: datetime) -> int:
    """Return a time as it is stored."""
    return round(moment.timestamp() * 1000)


def model_number(connection: sqlite3.Connection | None, name: str) -> int:
    """Return the key of a model. Raises NotTaughtError."""
    row = None
    if connection is not None:
        row = connection.execute("SELECT id FROM models WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotTaughtError(f"{shortened(name)}: there is no taught model of this name")
    return int(row[0])


def living_class(connection: sqlite3.Connection, model: int, class_id: str) -> tuple[str, str]:
    """Return slug and name of a class. Raises NotTaughtError."""
    row: tuple[str, str] | None = connection.execute(
        "SELECT slug, name FROM classes WHERE id = ? AND model = ? AND removed_ms IS NULL", (class_id, model)
    ).fetchone()
    if row is None:
        raise NotTaughtError(f"{shortened(class_id)}: the model has no such class; it may have been removed")
    return row


def read_models(connection: sqlite3.Connection, name: str | None = None) -> tuple[TaughtModel, ...]:
    """Return all models by name, or the one of a name."""
    rows = connection.execute(
        "SELECT id, name, pipeline, made_ms FROM models WHERE ? IS NULL OR name = ? ORDER BY name", (name, name)
    ).fetchall()
    return tuple(_read_model(connection, *row) for row in rows)


def _read_model(
    connection: sqlite3.Connection, model: int, name: str, pipeline: str | None, made_ms: int
) -> TaughtModel:
    counts: dict[str | None, Sequence[int]] = {
        class_id: figures
        for class_id, *figures in connection.execute(
            "SELECT class, count(*), count(DISTINCT recording), count(DISTINCT look),"
            " max(captured_ms) - min(captured_ms) FROM pictures WHERE model = ? AND binned_ms IS NULL GROUP BY class",
            (model,),
        )
    }
    classes = tuple(
        _read_class(class_id, slug, label, counts.get(class_id, (0, 0, 0, 0)))
        for class_id, slug, label in connection.execute(
            "SELECT id, slug, name FROM classes WHERE model = ? AND removed_ms IS NULL ORDER BY id", (model,)
        )
    )
    total, size = connection.execute(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM pictures WHERE model = ?", (model,)
    ).fetchone()
    to_sort, _, groups, _ = counts.get(None, (0, 0, 0, 0))
    return TaughtModel(
        name=name,
        pipeline=pipeline,
        made=_moment(made_ms),
        classes=classes,
        to_sort=to_sort,
        to_sort_groups=groups,
        bin=total - sum(figures[0] for figures in counts.values()),
        bytes=size,
        missing=missing(classes),
        newest_step=connection.execute("SELECT max(id) FROM steps WHERE model = ?", (model,)).fetchone()[0],
    )


def _read_class(class_id: str, slug: str, name: str, figures: Sequence[int]) -> TaughtClass:
    pictures, recordings, _, span_ms = figures
    unknown = slug == UNKNOWN
    return TaughtClass(
        id=class_id,
        slug=slug,
        name=name,
        unknown=unknown,
        pictures=pictures,
        recordings=recordings,
        enough=is_enough(pictures, recordings),
        advice=class_advice(unknown=unknown, pictures=pictures, recordings=recordings, span_ms=span_ms),
    )


def read_pictures(
    connection: sqlite3.Connection, model: int, where: str, after: str | None, limit: int
) -> list[TaughtPicture]:
    """Return pictures at a place, after the picture `after` of the same list."""
    if where == TO_SORT:
        return _read_to_sort(connection, model, after, limit)
    place, values = ("binned_ms IS NOT NULL", ()) if where == BIN else ("binned_ms IS NULL AND class = ?", (where,))
    rows = connection.execute(
        f"SELECT {_PICTURE} FROM pictures WHERE model = ? AND {place} AND (? IS NULL OR id < ?)"  # noqa: S608 - constants
        " ORDER BY id DESC LIMIT ?",
        (model, *values, after, after, limit),
    )
    return [_picture(row) for row in rows]


def _read_to_sort(connection: sqlite3.Connection, model: int, after: str | None, limit: int) -> list[TaughtPicture]:
    """Groups of look-alikes, the most uncertain first; within a group the most uncertain picture first."""
    rows = connection.execute(
        f"SELECT {_PICTURE} FROM pictures JOIN (SELECT look AS one, avg(coalesce(confidence, 0)) AS sure FROM pictures"  # noqa: S608 - constants
        "  WHERE model = ?1 AND binned_ms IS NULL AND class IS NULL GROUP BY look) ON one = look"
        " WHERE model = ?1 AND binned_ms IS NULL AND class IS NULL ORDER BY sure, look, coalesce(confidence, 0), id",
        (model,),
    ).fetchall()
    start = 0 if after is None else next((at for at, row in enumerate(rows, 1) if row[0] == after), len(rows))
    return [_picture(row) for row in rows[start : start + limit]]


def _picture(row: tuple[Any, ...]) -> TaughtPicture:
    picture, class_id, binned_ms, recording, look, source, captured_ms, label, confidence = row
    return TaughtPicture(
        id=picture,
        class_id=class_id,
        binned=binned_ms is not None,
        recording=recording,
        group=look,
        source=source,
        captured=_moment(captured_ms),
        guess=None if label is None else Guess(label, confidence),
    )


def _moment(stored_ms: int) -> datetime:
    return datetime.fromtimestamp(stored_ms / 1000, UTC)
