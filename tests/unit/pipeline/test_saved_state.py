"""The saved state: commands and watches survive restarts, damage and unreadable files."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from edge_classifierd.clock import SystemClock, TimePoint
from edge_classifierd.errors import EdgeClassifierError
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.pipeline.saved_state import (
    ActiveWatch,
    SavedCommands,
    SavedState,
    SavedWatches,
    encode_watches,
)
from edge_classifierd.preprocess import Region

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SINCE = datetime(2026, 11, 21, 22, 26, 11, 123000, tzinfo=UTC)
REGION = Region(0.1, 0.2, 0.5, 0.25)
DAMAGED = ["", "[]", "{", '{"pipelines, version 1": {"a": 1}}', '{"version 9": {}}', "\x00" * 9]


class FakeClock(SystemClock):
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Start:
    """Starts of the daemon in one state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copy = folder / "state.json"
        self.clock = FakeClock()
        self.outbox: Outbox | None = None

    def __call__(self, *, forget_commands: bool = False) -> SavedState:
        self.stop()
        path = self.folder / "outbox.sqlite3"
        self.outbox = Outbox(path, topic=lambda event: event.pipeline, clock=self.clock)
        return SavedState(self.outbox, self.copy, self.clock, forget_commands=forget_commands)

    def record(self, saved: SavedState, pipeline: str, watches: SavedWatches) -> None:
        """As the reporter does it."""
        assert self.outbox is not None
        self.outbox.append((), encode_watches(pipeline, watches))
        saved.set_watches(pipeline, watches)

    def stop(self) -> None:
        if self.outbox is not None:
            self.outbox.close()

    def damage_database(self) -> None:
        self.stop()
        (self.folder / "outbox.sqlite3").write_bytes(b"garbage" * 1000)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = Start(tmp_path)
    yield started
    started.stop()


def test_everything_survives_a_restart(start: Start) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.set_threshold("a", "dog", 0.7)
    saved.set_threshold("a", "cat", 0.8)
    saved.set_region("a", REGION)
    saved.set_model("a", "birds")
    assert saved.save()
    watches = SavedWatches(
        {"any": ActiveWatch("tench, Tinca tinca", SINCE, 7, "bed51c", since_known=False)},
        {"dog": SINCE + timedelta(seconds=5)},
        TimePoint(SINCE, 12.5, "a boot", synchronised=True),
    )
    start.record(saved, "b", watches)
    again = start()
    commands = SavedCommands(enabled=False, thresholds={"dog": 0.7, "cat": 0.8}, region=REGION, model="birds")
    assert again.commands("a") == commands
    assert again.models() == {"a": "birds"}
    assert again.watches("b") == watches
    assert (again.commands("c"), again.watches("c")) == (SavedCommands(), SavedWatches())


def test_a_command_returns_to_the_configuration_and_the_others_stay(start: Start) -> None:
    saved = start()
    saved.set_enabled("a", False)
    for watch, threshold in (("dog", 0.7), ("cat", 0.8), ("dog", None), ("cow", None)):
        saved.set_threshold("a", watch, threshold)
    saved.set_enabled("a", None)
    saved.set_region("a", REGION)
    saved.set_region("a", None)
    saved.set_model("a", "birds")
    saved.set_model("a", None)
    saved.save()
    assert start().commands("a") == SavedCommands(thresholds={"cat": 0.8})


def test_commands_can_be_forgotten_and_watches_stay(start: Start) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.set_region("a", REGION)
    start.record(saved, "a", SavedWatches({"any": ActiveWatch("tench", SINCE)}, {"dog": SINCE}))
    saved.save()
    for again in (start(forget_commands=True), start()):
        assert again.commands("a") == SavedCommands()
        assert again.watches("a") == SavedWatches({"any": ActiveWatch("tench", SINCE)}, {"dog": SINCE})


def test_commands_are_stored_at_most_once_a_second_and_the_latest_value_at_the_end(start: Start) -> None:
    saved = start()
    stores = 0
    for step in range(1, 101):
        saved.set_threshold("a", "dog", step / 1000)
        stores += saved.save()
        start.clock.now_s += 0.05
    assert stores == 5
    assert saved.save(at_once=True)
    assert not saved.save(at_once=True)
    assert start().commands("a").thresholds == {"dog": 0.1}


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_lost_database_falls_back_to_the_copy(start: Start, damage: str) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    start.record(saved, "a", SavedWatches({"any": ActiveWatch("tench", SINCE, 0, "bed51c")}))
    start.clock.now_s += 2
    saved.save()
    start.damage_database()
    if damage == "missing":
        (start.folder / "outbox.sqlite3").unlink()
    for again in (start(), start()):
        assert again.commands("a").enabled is False
        assert again.watches("a") == SavedWatches({"any": ActiveWatch("tench", SINCE, 0, "bed51c")})
        start.copy.unlink(missing_ok=True)  # the second start finds it in the new database


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_copy_changes_nothing(start: Start, content: str) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    start.copy.write_text(content)
    assert start().commands("a").enabled is False


@pytest.mark.parametrize("content", DAMAGED)
def test_without_database_and_copy_the_configuration_holds(
    start: Start, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    start.copy.write_text(content)
    saved = start()
    assert saved.commands("a") == SavedCommands()
    assert "set aside" in caplog.text
    assert start.copy.with_name("state.json.unreadable").read_text() == content


def make_unreadable(monkeypatch: pytest.MonkeyPatch, path: Path, error: int) -> None:
    """Let reading fail although the tests run as root, who may read everything."""
    read_text = type(path).read_text

    def refuse(self: Path, *arguments: Any, **options: Any) -> str:
        if self == path:
            raise OSError(error, os.strerror(error), str(self))
        return read_text(self, *arguments, **options)

    monkeypatch.setattr(type(path), "read_text", refuse)


@pytest.mark.parametrize("error", [13, 5])
def test_an_unreadable_copy_is_not_needed_beside_the_database(
    start: Start, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    with monkeypatch.context() as patch:
        make_unreadable(patch, start.copy, error)
        assert start().commands("a").enabled is False
    assert "false" in start.copy.read_text()


@pytest.mark.parametrize("error", [13, 5])
def test_no_camera_is_switched_on_while_neither_can_be_read(
    start: Start, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    start.damage_database()
    with monkeypatch.context() as patch:
        make_unreadable(patch, start.copy, error)
        with pytest.raises(EdgeClassifierError, match="forget-commands"):
            start()
        assert start(forget_commands=True).commands("a").enabled is None


def test_an_unreadable_copy_stays_in_its_place_until_the_next_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    start.damage_database()
    with monkeypatch.context() as patch:
        make_unreadable(patch, start.copy, 13)
        with pytest.raises(EdgeClassifierError):
            start()
    assert start().commands("a").enabled is False


def test_an_unreadable_database_is_not_damage_and_the_copy_holds(start: Start) -> None:
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    start.stop()
    database = start.folder / "outbox.sqlite3"
    away = database.rename(start.folder / "away")
    database.mkdir()  # cannot be opened, for root neither
    again = start()
    assert again.commands("a").enabled is False
    again.set_threshold("a", "dog", 0.5)
    assert again.save(at_once=True)
    database.rmdir()
    away.rename(database)
    start.clock.now_s += 6
    assert start.outbox is not None
    start.outbox.maintain()
    start.copy.unlink()
    assert start().commands("a") == SavedCommands(enabled=False, thresholds={"dog": 0.5})


def test_the_file_of_an_earlier_version_is_taken_over(start: Start) -> None:
    active = {"label": "crane", "since": "2026-11-21T22:26:11.123Z"}
    one = {"enabled": False, "thresholds": {"any": 0.7}, "active": {"any": active}}
    start.copy.write_text(json.dumps({"pipelines, version 1": {"a": one}}))
    for saved in (start(), start()):
        assert saved.commands("a") == SavedCommands(enabled=False, thresholds={"any": 0.7})
        assert saved.watches("a") == SavedWatches({"any": ActiveWatch("crane", SINCE)})
        start.copy.unlink(missing_ok=True)


def test_the_copy_can_be_read_by_an_earlier_version(start: Start) -> None:
    saved = start()
    saved.set_enabled("a", False)
    start.record(saved, "a", SavedWatches({"any": ActiveWatch("crane", SINCE, 134, "bed51c")}, {"dog": SINCE}))
    saved.save()
    pipelines = json.loads(start.copy.read_text())["pipelines, version 1"]
    assert pipelines["a"]["enabled"] is False
    assert pipelines["a"]["thresholds"] == {}
    watch = {"label": "crane", "since": "2026-11-21T22:26:11.123Z", "index": 134, "model": "bed51c"}
    assert watch.items() <= pipelines["a"]["active"]["any"].items()
    assert pipelines["a"]["quiet_until"] == {"dog": "2026-11-21T22:26:11.123Z"}


def test_commands_wait_for_a_disk_that_takes_no_writes(start: Start) -> None:
    start.folder = start.folder / "state"
    start.folder.write_text("in the way")
    saved = start()
    saved.set_enabled("a", False)
    saved.save()
    assert saved.commands("a").enabled is False
    start.folder.unlink()
    start.clock.now_s += 6
    assert start.outbox is not None
    start.outbox.maintain()
    assert start().commands("a").enabled is False
