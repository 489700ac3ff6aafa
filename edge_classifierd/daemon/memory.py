"""What the daemon remembers across restarts beside the events: commands that were given, and watches that are on.

One small JSON file in the state directory, written whole and atomically at each change; changes are rare.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_classifierd.clock import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

_VERSION = "pipelines, version 1"


@dataclass(frozen=True, slots=True)
class ActiveWatch:
    """A watch that was on: the label it was detected with and since when."""

    label: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of one pipeline; None and absent mean: as configured."""

    enabled: bool | None = None
    thresholds: tuple[tuple[str, float], ...] = ()
    active: tuple[tuple[str, ActiveWatch], ...] = ()


class Memory:
    """The file and what it holds; any thread may call. A file that cannot be written costs durability, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._failing = False
        self._pipelines: dict[str, Remembered] = _read(path)

    def pipeline(self, name: str) -> Remembered:
        """What is remembered of a pipeline."""
        with self._lock:
            return self._pipelines.get(name, Remembered())

    def set_enabled(self, pipeline: str, enabled: bool) -> None:  # noqa: FBT001 - the value itself
        """Remember a command."""
        self._change(pipeline, enabled=enabled)

    def set_threshold(self, pipeline: str, watch: str, threshold: float) -> None:
        """Remember a command."""
        kept = dict(self.pipeline(pipeline).thresholds)
        self._change(pipeline, thresholds=tuple({**kept, watch: threshold}.items()))

    def set_active(self, pipeline: str, active: Mapping[str, ActiveWatch]) -> None:
        """Remember which of a pipeline's watches are on; not worth a wait for the disk, as the next frame shows it."""
        self._change(pipeline, durably=False, active=tuple(active.items()))

    def forget_commands(self) -> None:
        """Back to what is configured; watches stay as they are."""
        with self._lock:
            self._pipelines = {name: Remembered(active=kept.active) for name, kept in self._pipelines.items()}
            self._write()

    def _change(self, pipeline: str, *, durably: bool = True, **changes: Any) -> None:  # noqa: ANN401 - any field
        with self._lock:
            before = self._pipelines.get(pipeline, Remembered())
            after = replace(before, **changes)
            if after != before:
                self._pipelines[pipeline] = after
                self._write(durably=durably)

    def _write(self, *, durably: bool = True) -> None:
        document = {_VERSION: {name: _document(kept) for name, kept in self._pipelines.items()}}
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(document, file, ensure_ascii=False, indent=1)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            if not self._failing:
                _log.warning("%s: cannot be written (%s); what it holds lasts until a restart", self._path, error)
            self._failing = True
        else:
            self._failing = False


def _document(kept: Remembered) -> dict[str, Any]:
    return {
        "enabled": kept.enabled,
        "thresholds": dict(kept.thresholds),
        "active": {name: {"label": watch.label, "since": timestamp(watch.since)} for name, watch in kept.active},
    }


def _read(path: Path) -> dict[str, Remembered]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {name: _remembered(kept) for name, kept in document[_VERSION].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        aside = path.with_name(f"{path.name}.unreadable")
        with contextlib.suppress(OSError):
            path.replace(aside)
        _log.warning("%s: unreadable (%s); set aside as %s, going on as configured", path, error, aside.name)
        return {}


def _remembered(kept: dict[str, Any]) -> Remembered:
    return Remembered(
        enabled=None if kept["enabled"] is None else bool(kept["enabled"]),
        thresholds=tuple((str(name), float(value)) for name, value in kept["thresholds"].items()),
        active=tuple(
            (str(name), ActiveWatch(str(watch["label"]), datetime.fromisoformat(watch["since"])))
            for name, watch in kept["active"].items()
        ),
    )
