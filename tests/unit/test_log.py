"""The log's lines: plain for people, with a priority for journald, and only when it is journald that reads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_classifierd import log
from edge_classifierd.log import RecentWarnings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROGRAM = """
import logging
from edge_classifierd import log
log.configure("{level}")
log.configure("{level}")
logger = logging.getLogger("x")
logger.debug("fine")
logger.info("good")
logger.warning("odd")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("bad")
"""


def said(file: Path, level: str = "info", environment: Mapping[str, str] | None = None) -> list[str]:
    """What a process logs into a file."""
    with file.open("wb") as stderr:
        command = [sys.executable, "-c", PROGRAM.format(level=level)]
        subprocess.run(command, stderr=stderr, check=True, timeout=30, env={**os.environ, **(environment or {})})
    return file.read_text().splitlines()


@pytest.mark.parametrize(
    ("level", "first"), [("debug", "fine"), ("info", "good"), ("warning", "odd"), ("error", "bad")]
)
def test_only_what_is_at_least_of_the_level_is_said_and_once(tmp_path: Path, level: str, first: str) -> None:
    lines = said(tmp_path / "log", level)
    assert lines[0].endswith(first)
    assert [line for line in lines if line.endswith("bad")] == [line for line in lines if "ERROR" in line]
    assert set(log.LEVELS) == {"debug", "info", "warning", "error"}


def test_a_terminals_line_has_its_time_and_its_level(tmp_path: Path) -> None:
    first = said(tmp_path / "log")[0]
    assert first[:2] == "20"
    assert first.split()[2:] == ["INFO", "good"]


def test_each_line_for_the_journal_carries_the_priority_also_a_tracebacks(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    journal = f"{file.stat().st_dev}:{file.stat().st_ino}"
    lines = said(file, "debug", {"JOURNAL_STREAM": journal})
    assert lines[:4] == ["<7>fine", "<6>good", "<4>odd", "<3>bad"]
    assert lines[4].startswith("<3>Traceback")
    assert all(line.startswith("<3>") for line in lines[4:])


def test_a_terminal_of_a_desktop_that_systemd_started_is_not_taken_for_the_journal(tmp_path: Path) -> None:
    assert "<6>" not in said(tmp_path / "log", "info", {"JOURNAL_STREAM": "8:12345"})[0]


def test_a_process_without_stderr_logs_without_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert log._stderr_is_journal() is False


HOSTILE = """
import logging, pathlib, sys
from edge_classifierd import log
from edge_classifierd.log import RecentWarnings
from edge_classifierd.errors import ConfigurationError, Problem, SourceError, hide
log.configure("debug")
logger = logging.getLogger("x")
name = "a\\x1b[31m\\n<2>2026-01-01 ERROR forged\\u202e\\r"
hide("hidden-word", "`!file x`")
for argument in (name, pathlib.Path(name), SourceError(name), ValueError(name), [name], {"a": name}, name.encode()):
    logger.warning("%s: refused", argument)
logger.warning(name)
logger.warning("%r %d hidden-word", name, 5)
try:
    raise ValueError(name)
except ValueError:
    logger.exception("%s", name)
logger.error("%s", ConfigurationError((Problem("c", 1, 1, "k", "first"), Problem("c", 2, 1, "k", name))))
"""


@pytest.mark.parametrize("journal", [False, True])
def test_no_name_forges_a_line_or_controls_a_terminal(tmp_path: Path, journal: bool) -> None:
    program = HOSTILE
    if journal:
        program = HOSTILE.replace("log.configure", "log._stderr_is_journal = lambda: True; log.configure")
    with (tmp_path / "log").open("wb") as stderr:
        subprocess.run([sys.executable, "-c", program], stderr=stderr, check=True, timeout=30)
    text = (tmp_path / "log").read_text()
    lines = text.split("\n")
    assert not any(character in text for character in "\x1b\u202e\r")
    assert "hidden-word" not in text
    assert not any(line.startswith(("<2>", "2026-01-01")) for line in lines)
    before = lines[: next(at for at, line in enumerate(lines) if "Traceback" in line)]
    assert len(before) == 10
    assert lines[-3].endswith("c:1:1: k: first")


def test_the_newest_warnings_are_held_without_tracebacks() -> None:
    recent = RecentWarnings(3)
    recent.install()
    logger = logging.getLogger("edge_classifierd.test")
    try:
        logger.info("not held")
        for number in range(3):
            logger.warning("number %d of %s", number, "a\nfile")
        try:
            int("a bug")
        except ValueError:
            logger.exception("not a number")
        logger.warning("x" * 5000)
    finally:
        recent.remove()
    logger.warning("not held")
    assert [one.message for one in recent.newest] == ["number 2 of a\\nfile", "not a number", "x" * 1000]
    assert [one.level for one in recent.newest] == ["warning", "error", "warning"]
    assert recent.newest[0].time.tzinfo is not None
