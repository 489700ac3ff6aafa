"""The log's lines: plain for people, with a priority for journald, and only when it is journald that reads."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_classifierd import log

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
