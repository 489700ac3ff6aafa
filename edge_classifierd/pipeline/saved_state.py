"""The state that survives a restart: commanded values, and the watches that are on or in their cooldown.

It is stored in the outbox's database: watches in the transaction of their events, commands at most once a second. A
copy in `state.json` is used when the database is damaged or new, and by an earlier version of the daemon.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from edge_classifierd.clock import TimePoint, timestamp
from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.events.schema import dump
from edge_classifierd.preprocess import Region
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.events.outbox import Outbox

_VERSION: Final = "pipelines, version 1"
_COMMANDS: Final = "commands/"
_WATCHES: Final = "watches/"
_SAVE_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SavedCommands:
    """The values commanded over MQTT for one pipeline; None and absent mean: as configured."""

    enabled: bool | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    region: Region | None = None
    model: str | None = None
    """The name of a taught model."""


@dataclass(frozen=True, slots=True)
class ActiveWatch:
    """A watch that is on: the label it was detected with and since when."""

    label: str
    since: datetime
    index: int | None = None
    """The label's class in the model `model`; an earlier version stored neither."""
    model: str | None = None
    """The SHA-256 of the model's file."""
    since_known: bool = True
    """Whether `since` is true; False when the clock was stepped over a restart."""


@dataclass(frozen=True, slots=True)
class SavedWatches:
    """The watches of one pipeline that are on, and when the cooldown of others ends."""

    active: Mapping[str, ActiveWatch] = field(default_factory=dict)
    quiet_until: Mapping[str, datetime] = field(default_factory=dict)
    saved_at: TimePoint | None = None
    """When this was stored: its wall clock is the one of all times here. An earlier version did not store it."""


class SavedState:
    """What is stored of all pipelines. Thread-safe."""

    def __init__(self, outbox: Outbox, copy: Path, clock: Clock, *, forget_commands: bool = False) -> None:
        """Load the state from the outbox, or from the copy when the outbox lacks it.

        Args:
            outbox: stores the state.
            copy: the file that holds the copy.
            clock: the clock.
            forget_commands: return to what is configured; watches stay as they are.

        Raises:
            EdgeClassifierError: neither can be read, so that a camera may be switched on that was switched off.
        """
        self._outbox = outbox
        self._clock = clock
        self._copy = StateFile(copy, _VERSION, "it is the copy of what the outbox's database holds")
        self._lock = threading.Lock()
        self._changed_commands: set[str] = set()
        self._copy_changed = False
        self._saved_s = self._copied_s = float("-inf")
        self._commands: dict[str, SavedCommands] = {}
        self._watches: dict[str, SavedWatches] = {}
        stored = {name for prefix in (_COMMANDS, _WATCHES) for name in outbox.state(prefix)}
        if not (outbox.intact and stored and self._load_from_outbox()):
            self._load_from_copy(must_be_readable=not forget_commands)
        if forget_commands:
            self._commands = dict.fromkeys(self._commands, SavedCommands())
            self._changed_commands = set(self._commands)
            self.save(at_once=True)

    def commands(self, pipeline: str) -> SavedCommands:
        """Return the commanded values of a pipeline."""
        with self._lock:
            return self._commands.get(pipeline, SavedCommands())

    def watches(self, pipeline: str) -> SavedWatches:
        """Return the stored watches of a pipeline."""
        with self._lock:
            return self._watches.get(pipeline, SavedWatches())

    def set_enabled(self, pipeline: str, enabled: bool | None) -> None:  # noqa: FBT001 - the value itself
        """Change a commanded value, None returns to the configuration; `save` stores it."""
        with self._lock:
            self._commands[pipeline] = replace(self._commands.get(pipeline, SavedCommands()), enabled=enabled)
            self._changed_commands.add(pipeline)

    def set_threshold(self, pipeline: str, watch: str, threshold: float | None) -> None:
        """Change a commanded value, None returns to the configuration; `save` stores it."""
        with self._lock:
            before = self._commands.get(pipeline, SavedCommands())
            thresholds = {name: value for name, value in before.thresholds.items() if name != watch}
            if threshold is not None:
                thresholds[watch] = threshold
            self._commands[pipeline] = replace(before, thresholds=thresholds)
            self._changed_commands.add(pipeline)

    def set_region(self, pipeline: str, region: Region | None) -> None:
        """Change a commanded value, None returns to the configuration; `save` stores it."""
        with self._lock:
            self._commands[pipeline] = replace(self._commands.get(pipeline, SavedCommands()), region=region)
            self._changed_commands.add(pipeline)

    def set_model(self, pipeline: str, model: str | None) -> None:
        """Change a commanded value, None returns to the configuration; `save` stores it."""
        with self._lock:
            self._commands[pipeline] = replace(self._commands.get(pipeline, SavedCommands()), model=model)
            self._changed_commands.add(pipeline)

    def models(self) -> dict[str, str]:
        """Return the commanded taught model of each pipeline that has one."""
        with self._lock:
            return {name: one.model for name, one in self._commands.items() if one.model is not None}

    def set_watches(self, pipeline: str, watches: SavedWatches) -> None:
        """Note the watches that were stored with `encode_watches`."""
        with self._lock:
            self._watches[pipeline] = watches
            self._copy_changed = True

    def save(self, *, at_once: bool = False) -> bool:
        """Store changed commands and the copy, at most once a second; return whether commands were stored.

        While the disk takes no writes the outbox holds the commands in memory and stores them later.
        """
        with self._lock:
            now_s = self._clock.monotonic()
            stores = bool(self._changed_commands) and (at_once or now_s - self._saved_s >= _SAVE_EVERY_S)
            if stores:
                changed, self._changed_commands, self._saved_s = self._changed_commands, set(), now_s
                self._outbox.append((), {_COMMANDS + name: _dump_commands(self._commands[name]) for name in changed})
            if stores or (self._copy_changed and (at_once or now_s - self._copied_s >= _SAVE_EVERY_S)):
                self._copied_s = now_s
                names = self._commands.keys() | self._watches.keys()
                document = {name: {**self._commands_document(name), **self._watches_document(name)} for name in names}
                self._copy_changed = not self._copy.write(document, durably=False)
        return stores

    def _load_from_outbox(self) -> bool:
        try:
            commands = self._outbox.state(_COMMANDS)
            self._commands = {name: _parse_commands(json.loads(value)) for name, value in commands.items()}
            watches = self._outbox.state(_WATCHES)
            self._watches = {name: _parse_watches(json.loads(value)) for name, value in watches.items()}
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return False
        return True

    def _load_from_copy(self, *, must_be_readable: bool) -> None:
        copied = self._copy.read(_parse_copy, None)
        if self._copy.unreadable and must_be_readable:
            raise EdgeClassifierError(
                "neither the outbox nor its copy of the commanded values can be read, and a camera may have been"
                " switched off; make the files of the state directory readable, or start once with --forget-commands"
            )
        if copied is None:
            self._load_from_outbox()
        else:
            self._commands, self._watches = copied
            state = {_COMMANDS + name: _dump_commands(one) for name, one in self._commands.items()}
            for name, watches in self._watches.items():
                state |= encode_watches(name, watches)
            self._outbox.append((), state)

    def _commands_document(self, pipeline: str) -> dict[str, Any]:
        return _commands_document(self._commands.get(pipeline, SavedCommands()))

    def _watches_document(self, pipeline: str) -> dict[str, Any]:
        return _watches_document(self._watches.get(pipeline, SavedWatches()))


def encode_watches(pipeline: str, watches: SavedWatches) -> dict[str, str]:
    """Return the watches as a value of the outbox's state, to be stored with their events."""
    return {_WATCHES + pipeline: dump(_watches_document(watches)).decode()}


def _dump_commands(commands: SavedCommands) -> str:
    return dump(_commands_document(commands)).decode()


def _commands_document(commands: SavedCommands) -> dict[str, Any]:
    region = commands.region
    return {
        "enabled": commands.enabled,
        "thresholds": dict(commands.thresholds),
        "region": None if region is None else [region.x, region.y, region.width, region.height],
        "model": commands.model,
    }


def _watches_document(watches: SavedWatches) -> dict[str, Any]:
    document: dict[str, Any] = {
        "active": {
            name: {
                "label": watch.label,
                "since": timestamp(watch.since),
                "index": watch.index,
                "model": watch.model,
                "since_known": watch.since_known,
            }
            for name, watch in watches.active.items()
        },
        "quiet_until": {name: timestamp(moment) for name, moment in watches.quiet_until.items()},
    }
    if watches.saved_at is not None:
        saved = watches.saved_at
        document["saved_at"] = [timestamp(saved.utc), saved.monotonic_s, saved.boot_id, saved.synchronised]
    return document


def _parse_copy(document: Any) -> tuple[dict[str, SavedCommands], dict[str, SavedWatches]]:  # noqa: ANN401 - any JSON
    return (
        {str(name): _parse_commands(one) for name, one in document.items()},
        {str(name): _parse_watches(one) for name, one in document.items()},
    )


def _parse_commands(document: Any) -> SavedCommands:  # noqa: ANN401 - any JSON
    region, model = document.get("region"), document.get("model")  # an earlier version had none
    return SavedCommands(
        enabled=None if document["enabled"] is None else bool(document["enabled"]),
        thresholds={str(watch): float(value) for watch, value in document["thresholds"].items()},
        region=None if region is None else Region(*(float(value) for value in region)),
        model=None if model is None else str(model),
    )


def _parse_watches(document: Any) -> SavedWatches:  # noqa: ANN401 - any JSON
    saved_at = document.get("saved_at")
    return SavedWatches(
        active={str(watch): _parse_active(active) for watch, active in document["active"].items()},
        quiet_until={
            str(watch): datetime.fromisoformat(moment) for watch, moment in document.get("quiet_until", {}).items()
        },
        saved_at=None
        if saved_at is None
        else TimePoint(datetime.fromisoformat(saved_at[0]), float(saved_at[1]), str(saved_at[2]), bool(saved_at[3])),
    )


def _parse_active(document: Any) -> ActiveWatch:  # noqa: ANN401 - any JSON
    index, model = document.get("index"), document.get("model")
    return ActiveWatch(
        str(document["label"]),
        datetime.fromisoformat(document["since"]),
        None if index is None else int(index),
        None if model is None else str(model),
        bool(document.get("since_known", True)),
    )
