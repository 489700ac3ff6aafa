"""Adds and renames the classes of a model; every function runs inside the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError
from edge_classifierd.teaching.records import UNKNOWN, NameTakenError, folded, slug_for
from edge_classifierd.teaching.rows import living_class

if TYPE_CHECKING:
    from edge_classifierd.events.ulid import UlidGenerator
    from edge_classifierd.teaching.rows import ModelTransaction

MOST_CLASSES: Final = 50


def insert_class(within: ModelTransaction, name: str, ulids: UlidGenerator) -> str:
    """Add a class with a slug of its own and return its identifier. Raises UsageError, NameTakenError."""
    if folded(name) == UNKNOWN:
        name = UNKNOWN
    _refuse_taken(within, name)
    slugs = within.connection.execute(
        "SELECT slug FROM classes WHERE model = ? AND removed_ms IS NULL", (within.model,)
    )
    taken = frozenset(slug for (slug,) in slugs)
    if len(taken) >= MOST_CLASSES:
        raise UsageError(f"{name}: a model has at most {MOST_CLASSES} classes; remove one first")
    class_id = ulids.new()
    slug = UNKNOWN if name == UNKNOWN else slug_for(name, taken | {UNKNOWN})
    insert_class_row(within, class_id, slug, name)
    return class_id


def insert_class_row(within: ModelTransaction, class_id: str, slug: str, name: str) -> None:
    """Add a class whose name and slug are known to be free."""
    within.connection.execute(
        "INSERT INTO classes VALUES (?, ?, ?, ?, ?, NULL)", (class_id, within.model, slug, name, folded(name))
    )


def rename_class(within: ModelTransaction, class_id: str, name: str) -> None:
    """Change the name of a class, not its slug. Raises UsageError, NameTakenError, NotTaughtError."""
    slug, _ = living_class(within.connection, within.model, class_id)
    if slug == UNKNOWN or folded(name) == UNKNOWN:
        raise UsageError(f"the class `{UNKNOWN}` keeps its name, and no other class has it; add another class")
    _refuse_taken(within, name, besides=class_id)
    within.connection.execute("UPDATE classes SET name = ?, folded = ? WHERE id = ?", (name, folded(name), class_id))


def _refuse_taken(within: ModelTransaction, name: str, besides: str | None = None) -> None:
    """Raise NameTakenError when another class has the name; upper and lower case are the same."""
    row = within.connection.execute(
        "SELECT name FROM classes WHERE model = ? AND folded = ? AND removed_ms IS NULL AND id IS NOT ?",
        (within.model, folded(name), besides),
    ).fetchone()
    if row is not None:
        raise NameTakenError(f"{name}: the model has a class `{row[0]}` already; choose another name")
