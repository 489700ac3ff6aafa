"""The running daemon's report: fresh, of an earlier process, hidden, damaged, silent; and what is made of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.doctor import running_daemon
from edge_classifierd.doctor.running_daemon import RunningDaemon, check_daemon, find_daemon
from edge_classifierd.health.health_file import ReportedHealth, ReportedPipeline, read_health

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKS = ReportedPipeline(online=True, reasons=(), accelerator="cpu", fps=5.0)
STARTS = ReportedPipeline(online=False, reasons=(), accelerator=None, fps=None)


def a_health(uptime_s: float = 100.0, *, connected: bool = True, door: ReportedPipeline = WORKS) -> ReportedHealth:
    return ReportedHealth(uptime_s, connected, True, (), {"door": door})


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunningDaemon]:
    """Finds this process as a daemon of so many seconds, whose file holds or raises something."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)

    def find(age_s: float, *reports: ReportedHealth | Exception) -> RunningDaemon:
        left = list(reports)

        def read(_file: Path) -> ReportedHealth:
            report = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(report, Exception):
                raise report
            return report

        monkeypatch.setattr(running_daemon, "daemon_on", lambda _outbox: os.getpid())
        monkeypatch.setattr(running_daemon, "process_age_s", lambda _process: age_s)
        monkeypatch.setattr(running_daemon, "read_health", read)
        monkeypatch.setattr(running_daemon, "_LOOK_EVERY_S", 0.0)
        found = find_daemon(tmp_path / "outbox.sqlite3", tmp_path)
        assert found is not None
        return found

    return find


def test_what_the_daemon_reported_lately_counts(daemon: Callable[..., RunningDaemon]) -> None:
    found = daemon(130.0, a_health(100.0))
    assert found.health == a_health(100.0)
    (finding,) = check_daemon(found)
    assert (finding.verdict, f"process {os.getpid()} runs" in finding.sentence) == ("ok", True)


def test_a_daemon_that_stopped_reporting_hangs(daemon: Callable[..., RunningDaemon]) -> None:
    (finding,) = check_daemon(daemon(200.0, a_health(100.0)))
    assert (finding.verdict, "100 s ago" in finding.sentence) == ("failed", True)
    assert "journalctl" in finding.remedy


def test_the_file_of_an_earlier_process_does_not_count(daemon: Callable[..., RunningDaemon]) -> None:
    found = daemon(50.0, a_health(100.0))
    assert found.health is None
    (finding,) = check_daemon(found)
    assert (finding.verdict, "has not reported" in finding.sentence) == ("warning", True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "No such file"), "has not reported its health"),
        (PermissionError(13, "Permission denied"), "run this as root"),
        (OSError(5, "Input/output error"), "cannot be read"),
        (ValueError("no health document"), "no health document"),
    ],
)
def test_a_report_that_cannot_be_read_is_a_warning(
    daemon: Callable[..., RunningDaemon], error: Exception, words: str
) -> None:
    found = daemon(50.0, error)
    assert found.health is None
    (finding,) = check_daemon(found)
    assert (finding.verdict, words in str(finding)) == ("warning", True)


def test_a_daemon_that_was_just_started_is_given_time(daemon: Callable[..., RunningDaemon]) -> None:
    starting = [FileNotFoundError(), a_health(1.0, door=STARTS), a_health(1.5, connected=False)]
    assert daemon(2.0, *starting, a_health(2.0)).health == a_health(2.0)
    assert daemon(8.0, a_health(2.0, door=STARTS)).health == a_health(2.0, door=STARTS), "but not for ever"


def test_a_daemon_without_its_broker_fails_and_other_defects_are_warnings() -> None:
    reasons = ("door: it is gone", "the broker refuses events", "the board is hot")
    health = ReportedHealth(9.0, False, True, reasons, {"door": STARTS})
    findings = check_daemon(RunningDaemon(7, health))
    assert [finding.verdict for finding in findings] == ["failed", "warning", "warning"]
    assert "door" not in "".join(map(str, findings)), "which the camera's own line reports"


def test_without_a_lock_there_is_no_daemon(tmp_path: Path) -> None:
    assert find_daemon(tmp_path / "outbox.sqlite3", tmp_path) is None
    with pytest.raises(OSError, match="No such file"):
        read_health(tmp_path / "health.json")
