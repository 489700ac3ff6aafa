"""The models that are taught on this device, and their classes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import UsageError
from edge_classifierd.events.ulid import UlidGenerator
from edge_classifierd.teaching import steps
from edge_classifierd.teaching.classes import insert_class, rename_class
from edge_classifierd.teaching.database import TeachingDatabase
from edge_classifierd.teaching.records import (
    UNKNOWN,
    NameTakenError,
    TaughtClass,
    TaughtModel,
    checked_class_name,
    checked_model_name,
)
from edge_classifierd.teaching.rows import ModelTransaction, milliseconds, model_number, read_models

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from edge_classifierd.clock import Clock

MOST_MODELS: Final = 50


class ModelStore:
    """Models and classes of a state directory; `TeachingStore` adds their pictures and documents the errors."""

    def __init__(self, state: Path, clock: Clock) -> None:
        """Create the object; nothing is read or written. `state` is the daemon's state directory."""
        self._database = TeachingDatabase(state)
        self._clock = clock
        self._ulids = UlidGenerator(clock)

    def close(self) -> None:
        """Close the index."""
        self._database.close()

    def folder(self, model: str) -> Path:
        """Return the folder of a model, for its versions. Raises NotTaughtError."""
        with self._database.reading() as connection:
            model_number(connection, model)
        return self._database.folder / model

    # Models

    def models(self) -> tuple[TaughtModel, ...]:
        """Return all models by name."""
        with self._database.reading() as connection:
            return () if connection is None else read_models(connection)

    def model(self, name: str) -> TaughtModel:
        """Return a model. Raises NotTaughtError."""
        with self._database.reading() as connection:
            model_number(connection, name)
            assert connection is not None
            return read_models(connection, name)[0]

    def create(self, name: str, pipeline: str | None = None) -> TaughtModel:
        """Make a model with the class `unknown`. Raises UsageError for a bad name, NameTakenError."""
        checked_model_name(name)
        with self._database.writing() as connection:
            insert_class(self._insert_model(connection, name, pipeline), UNKNOWN, self._ulids)
        return self.model(name)

    def rename(self, name: str, new: str) -> None:
        """Rename a model and its folder. Raises UsageError for a bad name, NameTakenError."""
        checked_model_name(new)
        with self._database.writing() as connection:
            number = model_number(connection, name)
            self._refuse_taken(connection, new)
            connection.execute("UPDATE models SET name = ? WHERE id = ?", (new, number))
            connection.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (name, new))
        self._finish_folders()

    def set_pipeline(self, name: str, pipeline: str | None) -> None:
        """Set the pipeline whose camera the pictures of a model come from."""
        with self._database.writing() as connection:
            number = model_number(connection, name)
            connection.execute("UPDATE models SET pipeline = ? WHERE id = ?", (pipeline, number))

    def delete(self, name: str) -> None:
        """Delete a model with all its pictures and versions. This cannot be undone."""
        with self._database.writing() as connection:
            number = model_number(connection, name)
            connection.execute("DELETE FROM models WHERE id = ?", (number,))
            connection.execute("INSERT OR REPLACE INTO folders VALUES (?, NULL)", (name,))
        self._finish_folders()

    # Classes

    def add_class(self, model: str, name: str) -> TaughtClass:
        """Add a class; its slug is made from the name and never changes. Raises UsageError, NameTakenError."""
        with self._writing(model) as within:
            class_id = insert_class(within, checked_class_name(name), self._ulids)
            return next(one for one in read_models(within.connection, model)[0].classes if one.id == class_id)

    def rename_class(self, model: str, class_id: str, name: str) -> None:
        """Change what people see of a class, not its slug. Raises UsageError, NameTakenError."""
        with self._writing(model) as within:
            rename_class(within, class_id, checked_class_name(name))

    def remove_class(self, model: str, class_id: str) -> int:
        """Remove a class, move its pictures to the bin, and return the step."""
        with self._writing(model) as within:
            return steps.remove_class(within, class_id)

    # Helpers

    def _now_ms(self) -> int:
        return milliseconds(self._clock.utc())

    def _finish_folders(self) -> None:
        with self._database.writing() as connection:
            self._database.finish_folders(connection)

    @contextlib.contextmanager
    def _writing(self, model: str) -> Iterator[ModelTransaction]:
        with self._database.writing() as connection:
            yield ModelTransaction(connection, model_number(connection, model), model, self._now_ms())

    def _insert_model(self, connection: sqlite3.Connection, name: str, pipeline: str | None) -> ModelTransaction:
        """Add a model without classes. Raises NameTakenError, UsageError."""
        self._refuse_taken(connection, name)
        if connection.execute("SELECT count(*) FROM models").fetchone()[0] >= MOST_MODELS:
            raise UsageError(f"{name}: there are {MOST_MODELS} taught models already; delete one first")
        now_ms = self._now_ms()
        cursor = connection.execute(
            "INSERT INTO models (name, pipeline, made_ms) VALUES (?, ?, ?)", (name, pipeline, now_ms)
        )
        return ModelTransaction(connection, int(cursor.lastrowid or 0), name, now_ms)

    def _refuse_taken(self, connection: sqlite3.Connection, name: str) -> None:
        """Raise NameTakenError when there is a model or a folder of the name."""
        self._database.finish_folders(connection)
        if connection.execute("SELECT 1 FROM models WHERE name = ?", (name,)).fetchone():
            raise NameTakenError(f"{name}: there is a taught model of this name already; choose another name")
        folder = self._database.folder / name
        if folder.exists():
            raise NameTakenError(f"{name}: the folder {folder} is in the way; move it away or choose another name")
