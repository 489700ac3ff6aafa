"""A small file that is either whole or set aside, and on the disk when that was asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.pipeline.saved_state import _parse_copy
from edge_classifierd.state_file import StateFile

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def the_file(folder: Path) -> StateFile:
    return StateFile(folder / "a.json", "things, version 1", "they last until a restart")


def itself(document: Any) -> Any:
    return document


def test_what_was_written_is_read_and_nothing_else_stays(tmp_path: Path) -> None:
    the_file(tmp_path).write({"grün": [1, None]}, durably=True)
    the_file(tmp_path).write({"grün": [2, None]}, durably=False)
    assert the_file(tmp_path).read(itself, {}) == {"grün": [2, None]}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]
    assert "grün" in (tmp_path / "a.json").read_text(encoding="utf-8"), "people read it"


def test_without_a_file_it_is_empty_and_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert the_file(tmp_path).read(itself, {"empty": True}) == {"empty": True}
    assert not caplog.records


def test_a_file_of_another_version_is_set_aside_with_the_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.json").write_text('{"things, version 2": {}}')
    assert the_file(tmp_path).read(itself, None) is None
    assert "set aside as a.json.unreadable; they last until a restart" in caplog.text
    assert not (tmp_path / "a.json").exists()
    assert (tmp_path / "a.json.unreadable").read_text() == '{"things, version 2": {}}'


def test_a_folder_that_may_only_be_read_still_lets_the_daemon_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("{")

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(tmp_path), "replace", refuse)
    assert the_file(tmp_path).read(itself, "empty") == "empty"


@pytest.mark.parametrize("durably", [True, False])
def test_durably_syncs_the_file_and_then_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durably: bool
) -> None:
    synced: list[tuple[str, bool, str]] = []

    def sync(descriptor: int) -> None:
        here = tmp_path / "a.json"
        old = here.read_text() if here.exists() else ""
        pending = tmp_path / ".a.json.new"
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, "2" in old, _text(pending)))

    file = the_file(tmp_path)
    file.write([1], durably=False)
    monkeypatch.setattr(os, "fsync", sync)
    file.write([2], durably=durably)
    if not durably:
        assert not synced
        return
    (first, was_there, whole), (second, is_there, _) = synced
    assert (first, was_there) == (".a.json.new", False), "the content is on the disk before it has the name"
    assert json.loads(whole) == {"things, version 1": [2]}
    assert (second, is_there) == (tmp_path.name, True), "and the name thereafter"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_each_failure_of_the_disk_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = the_file(tmp_path / "absent")
    for _ in range(3):
        file.write([1], durably=True)
    assert caplog.text.count("cannot be written") == 1
    assert "they last until a restart" in caplog.text
    (tmp_path / "absent").mkdir()
    file.write([1], durably=True)
    (tmp_path / "absent" / "a.json").unlink()
    (tmp_path / "absent").rmdir()
    file.write([1], durably=True)
    assert caplog.text.count("cannot be written") == 2


def test_an_unreadable_file_stays_in_its_place_until_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"things, version 1": [1]}')

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    file = the_file(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_text", refuse)
        assert file.read(itself, "empty") == "empty"
    assert (file.unreadable, path.exists()) == (True, True)
    assert "cannot be read (Permission denied)" in caplog.text
    assert file.write([2], durably=False)
    assert (tmp_path / "a.json.unreadable").read_text() == '{"things, version 1": [1]}'


@given(JSON | st.dictionaries(st.text(max_size=3), st.fixed_dictionaries({}, optional={
    "enabled": JSON, "thresholds": JSON, "active": JSON, "quiet_until": JSON, "saved_at": JSON,
}), max_size=2))  # fmt: skip
def test_no_document_keeps_the_daemon_from_starting(tmp_path_factory: Any, document: object) -> None:
    folder = tmp_path_factory.mktemp("state")
    (folder / "state.json").write_text(json.dumps({"pipelines, version 1": document}))
    StateFile(folder / "state.json", "pipelines, version 1", "").read(_parse_copy, None)
