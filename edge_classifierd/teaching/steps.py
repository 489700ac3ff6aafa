"""Moves pictures between classes, *to sort* and the bin, in steps that can be undone.

A step stores where each of its pictures was before and after. Undoing it moves back those that are still where the step
put them. Every function runs inside the caller's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.teaching.records import BIN, TO_SORT, NameTakenError, NotTaughtError, StepGoneError
from edge_classifierd.teaching.rows import living_class

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from edge_classifierd.teaching.rows import ModelTransaction

MOST_STEPS: Final = 20
"""The newest steps of a model that can be undone."""


def new_step(within: ModelTransaction, removed_class: str | None = None) -> int:
    """Begin a step and return its number; the oldest ones give way."""
    cursor = within.connection.execute(
        "INSERT INTO steps (model, removed_class) VALUES (?, ?)", (within.model, removed_class)
    )
    step = int(cursor.lastrowid or 0)
    within.connection.execute(
        "DELETE FROM steps WHERE model = ?1"
        " AND id NOT IN (SELECT id FROM steps WHERE model = ?1 ORDER BY id DESC LIMIT ?2)",
        (within.model, MOST_STEPS),
    )
    return step


def step_of_recording(within: ModelTransaction, recording: str) -> int:
    """Return the step to which the pictures of a recording belong now; a new one if the former is gone."""
    row = within.connection.execute(
        "SELECT steps.id FROM recordings JOIN steps ON steps.id = step WHERE recordings.id = ?", (recording,)
    ).fetchone()
    if row is not None:
        return int(row[0])
    step = new_step(within)
    within.connection.execute("UPDATE recordings SET step = ? WHERE id = ?", (step, recording))
    return step


def note_added(connection: sqlite3.Connection, step: int, picture: str, class_id: str | None) -> None:
    """Store that a step has added a picture: undoing it moves the picture to the bin."""
    connection.execute(
        "INSERT INTO moves (step, picture, added, class_after) VALUES (?, ?, 1, ?)", (step, picture, class_id)
    )


def move(within: ModelTransaction, pictures: Iterable[str], to: str, step: int | None = None) -> int:
    """Move pictures and return the step. Raises NotTaughtError when the class or all pictures are gone.

    Args:
        within: The transaction.
        pictures: The pictures; those that are not there any more are left out.
        to: A class, `to_sort` or `bin`. A picture in the bin keeps its class.
        step: The step that the moves belong to; None begins one.
    """
    connection = within.connection
    if to not in {TO_SORT, BIN}:
        living_class(connection, within.model, to)
    found = [
        row
        for one in dict.fromkeys(pictures)
        for row in connection.execute(
            "SELECT id, class, binned_ms, placed_ms FROM pictures WHERE id = ? AND model = ?", (one, within.model)
        )
    ]
    if not found and step is None:
        raise NotTaughtError("none of the pictures is there any more")
    step = new_step(within) if step is None else step
    for picture, *before in found:
        class_id, binned_ms, placed_ms = before
        class_after: str | None = class_id if to == BIN else None if to == TO_SORT else to
        binned_after: int | None = (binned_ms or within.now_ms) if to == BIN else None
        if (class_after, binned_after) != (class_id, binned_ms):
            connection.execute(
                "INSERT INTO moves VALUES (?, ?, 0, ?, ?, ?, ?, ?)", (step, picture, *before, class_after, binned_after)
            )
            placed_after = placed_ms if class_after == class_id else within.now_ms
            _place(connection, picture, class_after, binned_after, placed_after)
    return step


def undo(within: ModelTransaction, step: int) -> int:
    """Take a step back and return the number of pictures that were moved.

    Raises:
        StepGoneError: The step was undone already, or is not among the newest 20.
        NameTakenError: A removed class cannot come back, because another one has its name.
    """
    connection = within.connection
    row = connection.execute(
        "SELECT removed_class FROM steps WHERE id = ? AND model = ?", (step, within.model)
    ).fetchone()
    if row is None:
        raise StepGoneError(f"this step cannot be undone any more: only the newest {MOST_STEPS} can, each once")
    if row[0] is not None:
        _restore_class(connection, within.model, row[0])
    moves = connection.execute(
        "SELECT picture, added, class_before, binned_before, placed_before"
        " FROM moves JOIN pictures ON pictures.id = picture"
        " WHERE step = ? AND class IS class_after AND binned_ms IS binned_after",
        (step,),
    ).fetchall()
    for picture, added, *before in moves:
        if added:
            connection.execute("UPDATE pictures SET binned_ms = ? WHERE id = ?", (within.now_ms, picture))
        else:
            _place(connection, picture, *before)
    connection.execute("DELETE FROM steps WHERE id = ?", (step,))
    return len(moves)


def remove_class(within: ModelTransaction, class_id: str) -> int:
    """Remove a class and move its pictures to the bin; return the step. Raises NotTaughtError."""
    living_class(within.connection, within.model, class_id)
    step = new_step(within, removed_class=class_id)
    own = within.connection.execute(
        "SELECT id FROM pictures WHERE model = ? AND class = ? AND binned_ms IS NULL", (within.model, class_id)
    ).fetchall()
    move(within, [one for (one,) in own], BIN, step)
    within.connection.execute("UPDATE classes SET removed_ms = ? WHERE id = ?", (within.now_ms, class_id))
    return step


def _restore_class(connection: sqlite3.Connection, model: int, class_id: str) -> None:
    name, taken = connection.execute(
        "SELECT name, EXISTS (SELECT 1 FROM classes AS other WHERE other.model = ? AND other.removed_ms IS NULL"
        " AND (other.folded = classes.folded OR other.slug = classes.slug)) FROM classes WHERE id = ?",
        (model, class_id),
    ).fetchone()
    if taken:
        raise NameTakenError(f"{name}: another class has this name now; rename that one first")
    connection.execute("UPDATE classes SET removed_ms = NULL WHERE id = ?", (class_id,))


def _place(
    connection: sqlite3.Connection, picture: str, class_id: str | None, binned_ms: int | None, placed_ms: int
) -> None:
    """Set the place of a picture; `placed_ms` is when it came into its class."""
    connection.execute(
        "UPDATE pictures SET class = ?, binned_ms = ?, placed_ms = ? WHERE id = ?",
        (class_id, binned_ms, placed_ms, picture),
    )
