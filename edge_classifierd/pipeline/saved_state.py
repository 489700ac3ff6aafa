"""What the daemon remembers across restarts beside the events: commands, and watches that are on or in their cooldown.

One small JSON file in the state directory; its changes are rare.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_classifierd.clock import timestamp
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_VERSION = "pipelines, version 1"


@dataclass(frozen=True, slots=True)
class ActiveWatch:
    """A watch that was on: the label it was detected with and since when."""

    label: str
    since: datetime
    index: int | None = None
    """The label's class in the model `model`; earlier versions remembered neither."""
    model: str | None = None
    """The SHA-256 of the model's file."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of one pipeline; None and absent mean: as configured."""

    enabled: bool | None = None
    thresholds: tuple[tuple[str, float], ...] = ()
    active: tuple[tuple[str, ActiveWatch], ...] = ()
    quiet_until: tuple[tuple[str, datetime], ...] = ()
    """The watches in their cooldown, and when it ends."""


class SavedState:
    """The file and what it holds; any thread may call. A file that cannot be written costs durability, nothing else."""

    def __init__(self, path: Path) -> None:
        self._owed = False  # a command that could not be written down yet
        self._file = StateFile(path, _VERSION, "what it holds lasts until a restart")
        self._lock = threading.Lock()
        self._changed = False
        self._pipelines: dict[str, Remembered] = self._file.read(_remembered, {})

    def pipeline(self, name: str) -> Remembered:
        """What is remembered of a pipeline."""
        with self._lock:
            return self._pipelines.get(name, Remembered())

    def set_enabled(self, pipeline: str, enabled: bool | None) -> None:  # noqa: FBT001 - the value itself
        """Remember a command; None forgets it."""
        with self._lock:
            self._change(pipeline, enabled=enabled)

    def set_threshold(self, pipeline: str, watch: str, threshold: float | None) -> None:
        """Remember a command; None forgets it."""
        with self._lock:
            kept = {**dict(self._pipelines.get(pipeline, Remembered()).thresholds), watch: threshold}
            self._change(pipeline, thresholds=tuple((name, value) for name, value in kept.items() if value is not None))

    def set_active(
        self, pipeline: str, active: Mapping[str, ActiveWatch], quiet_until: Iterable[tuple[str, datetime]] = ()
    ) -> None:
        """Remember which of a pipeline's watches are on, and which are in their cooldown.

        Written at once, or a crash would repeat the event that says so; without waiting for the disk, which that event
        has done: after a loss of power the next frame shows it.
        """
        with self._lock:
            self._change(pipeline, durably=False, active=tuple(active.items()), quiet_until=tuple(quiet_until))

    def forget_commands(self) -> None:
        """Back to what is configured; watches stay as they are."""
        with self._lock:
            self._pipelines = {
                name: replace(kept, enabled=None, thresholds=()) for name, kept in self._pipelines.items()
            }
            self._write(durably=True)

    def keep(self) -> None:
        """Write down what the disk has refused: call it often, and at the end."""
        with self._lock:
            if self._changed:
                self._write(durably=self._owed)

    def _change(self, pipeline: str, *, durably: bool = True, **changes: Any) -> None:  # noqa: ANN401 - any field
        before = self._pipelines.get(pipeline, Remembered())
        after = replace(before, **changes)
        if after != before:
            self._pipelines[pipeline] = after
            self._write(durably=durably or self._owed)

    def _write(self, *, durably: bool) -> None:
        written = self._file.write({name: _document(kept) for name, kept in self._pipelines.items()}, durably=durably)
        self._changed = not written
        self._owed = durably and not written


def _document(kept: Remembered) -> dict[str, Any]:
    return {
        "enabled": kept.enabled,
        "thresholds": dict(kept.thresholds),
        "active": {
            name: {"label": watch.label, "since": timestamp(watch.since), "index": watch.index, "model": watch.model}
            for name, watch in kept.active
        },
        "quiet_until": {name: timestamp(moment) for name, moment in kept.quiet_until},
    }


def _remembered(document: Any) -> dict[str, Remembered]:  # noqa: ANN401 - whatever the file holds
    return {
        name: Remembered(
            enabled=None if kept["enabled"] is None else bool(kept["enabled"]),
            thresholds=tuple((str(watch), float(value)) for watch, value in kept["thresholds"].items()),
            active=tuple((str(watch), _active(active)) for watch, active in kept["active"].items()),
            quiet_until=tuple(
                (str(watch), datetime.fromisoformat(moment)) for watch, moment in kept.get("quiet_until", {}).items()
            ),
        )
        for name, kept in document.items()
    }


def _active(document: Any) -> ActiveWatch:  # noqa: ANN401 - whatever the file holds
    index, model = document.get("index"), document.get("model")
    return ActiveWatch(
        str(document["label"]),
        datetime.fromisoformat(document["since"]),
        None if index is None else int(index),
        None if model is None else str(model),
    )
