"""`events` prints what the outbox's database holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from typer.main import get_command

from edge_classifierd.cli.main import app
from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)


def draft(watch: str = "dog", label: str = "Labrador retriever", hours_ago: float = 0, **changes: object) -> EventDraft:
    content: dict[str, object] = {"type": EventType.DETECTED, "pipeline": "driveway", "active_s": None, **changes}
    return EventDraft(
        device="porch", watch=watch, label=label, confidence=0.83, top=(), time=NOW - timedelta(hours=hours_ago),
        clock_synchronised=True, model=ModelIdentity("m", "0" * 64, "r", "cpu"), inference_ms=5.0, **content,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An outbox that a daemon could still write to: it is not closed cleanly before the test."""
    monkeypatch.setenv("EDGE_CLASSIFIERD_STATE", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    path = tmp_path / "outbox.sqlite3"
    outbox = Outbox(path, topic=lambda _: "t", clock=SystemClock())
    outbox.append([draft(hours_ago=30), draft("cat", "tabby", 1)])
    outbox.append([draft(type=EventType.CLEARED, active_s=41.96), draft(label="a" * 200, pipeline="garden")])
    outbox.acknowledge([1, 2])
    outbox.close()
    return path


def run(*arguments: str) -> int:
    return int(get_command(app).main(["events", *arguments], "edge-classifierd", standalone_mode=False) or 0)


def test_the_newest_events_are_printed_oldest_first_within_80_columns(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--database", str(database), "--limit", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    shown = (NOW - timedelta(hours=1)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert lines[0] == f"{shown}  #2  driveway  cat detected: tabby (83%)"
    assert "dog cleared after 42.0 s: Lab" in lines[1]
    assert lines[1].endswith("  (waiting)")
    assert [len(line) <= 80 for line in lines] == [True, True, True]
    assert len(lines[2]) == 80


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], [1, 2, 3, 4]),
        (["-n", "1"], [4]),
        (["--pipeline", "garden"], [4]),
        (["--watch", "dog", "--pipeline", "driveway"], [1, 3]),
        (["--since", "2h"], [2, 3, 4]),
        (["--since", (NOW - timedelta(hours=2)).isoformat()], [2, 3, 4]),
        (["--since", (NOW + timedelta(days=2)).strftime("%Y-%m-%d")], []),
    ],
)
def test_options_choose_events(
    database: Path, capsys: pytest.CaptureFixture[str], options: list[str], numbers: list[int]
) -> None:
    assert run("--database", str(database), "--json", *options) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["seq"] for line in output.out.splitlines()] == numbers
    assert ("no such events" in output.err) == (not numbers)


def test_the_configuration_names_the_database(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = database.parent / "config.yaml"
    config.write_text("pipelines: [{name: driveway, source: {type: v4l2}}]\n")
    assert run("--config", str(config), "-n", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pipeline"] == "garden"


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--since", "yesterday"], 2, "--since yesterday: give an age such as 2h or 3d, or a time such as"),
        (["--database", "missing.sqlite3"], 1, "missing.sqlite3: there is no outbox; has the daemon run here"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    capsys: pytest.CaptureFixture[str], options: list[str], code: int, sentence: str
) -> None:
    assert run(*options) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert sentence in output.err
    assert len(output.err.splitlines()) == 1
