from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.pipeline.saved_state import ActiveWatch, Remembered, SavedState

if TYPE_CHECKING:
    from pathlib import Path

SINCE = datetime(2026, 11, 21, 22, 26, 11, 123000, tzinfo=UTC)


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")
    memory.set_enabled("a", False)
    memory.set_threshold("a", "dog", 0.7)
    memory.set_threshold("a", "cat", 0.8)
    memory.set_active("b", {"any": ActiveWatch("tench, Tinca tinca", SINCE)})
    again = SavedState(tmp_path / "state.json")
    assert again.pipeline("a") == Remembered(enabled=False, thresholds=(("dog", 0.7), ("cat", 0.8)))
    assert again.pipeline("b") == Remembered(active=(("any", ActiveWatch("tench, Tinca tinca", SINCE)),))
    assert again.pipeline("c") == Remembered()


def test_a_command_can_be_forgotten_and_the_others_stay(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")
    memory.set_enabled("a", False)
    memory.set_threshold("a", "dog", 0.7)
    memory.set_threshold("a", "cat", 0.8)
    memory.set_threshold("a", "dog", None)
    memory.set_threshold("a", "cow", None)
    memory.set_enabled("a", None)
    assert SavedState(tmp_path / "state.json").pipeline("a") == Remembered(thresholds=(("cat", 0.8),))


def test_a_watch_is_remembered_with_its_class_and_model_and_read_without_them(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    memory = SavedState(file)
    seen = ActiveWatch("crane", SINCE, 517, "bed51c")
    memory.set_active("a", {"any": seen})
    assert SavedState(file).pipeline("a") == Remembered(active=(("any", seen),))
    active = '{"label": "crane", "since": "2026-11-21T22:26:11.123Z"}'
    kept = f'{{"enabled": null, "thresholds": {{}}, "active": {{"any": {active}}}}}'
    file.write_text(f'{{"pipelines, version 1": {{"a": {kept}}}}}')
    assert SavedState(file).pipeline("a") == Remembered(active=(("any", ActiveWatch("crane", SINCE)),))


def test_commands_can_be_forgotten_and_watches_stay(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")
    memory.set_enabled("a", False)
    memory.set_active("a", {"any": ActiveWatch("tench", SINCE)}, [("dog", SINCE)])
    memory.forget_commands()
    assert SavedState(tmp_path / "state.json").pipeline("a") == Remembered(
        active=(("any", ActiveWatch("tench", SINCE)),), quiet_until=(("dog", SINCE),)
    )


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"pipelines, version 1": {"a": 1}}', '{"version 9": {}}', "\x00" * 9]
)
def test_a_damaged_file_is_set_aside_and_said(content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)
    memory = SavedState(file)
    assert memory.pipeline("a") == Remembered()
    assert "set aside" in caplog.text
    assert (tmp_path / "state.json.unreadable").read_text() == content
    memory.set_enabled("a", True)
    assert SavedState(file).pipeline("a").enabled is True


def test_a_file_that_cannot_be_written_is_said_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = SavedState(tmp_path / "missing" / "state.json")
    memory.set_enabled("a", False)
    memory.set_enabled("b", False)
    assert memory.pipeline("a").enabled is False
    assert len(caplog.records) == 1
    (tmp_path / "missing").mkdir()
    memory.set_enabled("c", False)
    assert SavedState(tmp_path / "missing" / "state.json").pipeline("a").enabled is False


def test_a_command_that_could_not_be_written_is_written_when_the_disk_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    memory = SavedState(folder / "state.json")
    memory.set_enabled("a", False)
    memory.keep()
    assert SavedState(folder / "state.json").pipeline("a").enabled is None
    folder.mkdir()
    memory.keep()
    assert SavedState(folder / "state.json").pipeline("a").enabled is False


def test_a_command_that_could_not_be_written_waits_for_the_disk_also_when_a_watch_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    memory, synced = SavedState(folder / "state.json"), list[int]()
    memory.set_enabled("a", False)
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", synced.append)
    memory.set_active("a", {"dog": ActiveWatch("tench", SINCE)})
    assert len(synced) == 2


def test_a_watch_that_could_not_be_written_is_written_when_the_disk_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    memory = SavedState(folder / "state.json")
    memory.set_active("a", {"dog": ActiveWatch("tench", SINCE)})
    folder.mkdir()
    memory.keep()
    assert SavedState(folder / "state.json").pipeline("a").active


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")
    memory.set_threshold("a", "dog", 0.7)
    before = (tmp_path / "state.json").stat().st_ino
    memory.set_threshold("a", "dog", 0.7)
    assert (tmp_path / "state.json").stat().st_ino == before


def test_a_command_waits_for_the_disk_and_a_watch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, synced = SavedState(tmp_path / "state.json"), list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    memory.set_active("a", {"dog": ActiveWatch("tench", SINCE)})
    assert SavedState(tmp_path / "state.json").pipeline("a").active
    assert not synced
    memory.set_enabled("a", False)
    assert len(synced) == 2, "the file and its folder"
    memory.set_threshold("a", "dog", 0.7)
    assert len(synced) == 4
    memory.forget_commands()
    assert len(synced) == 6


def test_thresholds_that_are_set_side_by_side_are_all_remembered(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")

    def set_some(first: int) -> None:
        for number in range(first, first + 20):
            memory.set_threshold("a", str(number), 0.5)

    threads = [threading.Thread(target=set_some, args=(first,)) for first in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.pipeline("a").thresholds) == 60
    assert len(SavedState(tmp_path / "state.json").pipeline("a").thresholds) == 60


def test_what_was_kept_is_not_written_again(tmp_path: Path) -> None:
    memory = SavedState(tmp_path / "state.json")
    memory.set_active("a", {"dog": ActiveWatch("tench", SINCE)})
    before = (tmp_path / "state.json").stat().st_mtime_ns, (tmp_path / "state.json").stat().st_ino
    memory.keep()
    assert ((tmp_path / "state.json").stat().st_mtime_ns, (tmp_path / "state.json").stat().st_ino) == before
