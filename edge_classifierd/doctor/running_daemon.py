"""Finds the running daemon and checks the health that it reported in its file."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.clock import process_age_s
from edge_classifierd.doctor.check_result import CheckResult
from edge_classifierd.health.health_file import possible_paths, read_health
from edge_classifierd.health.report import PERIOD_S

if TYPE_CHECKING:
    from edge_classifierd.health.health_file import ReportedHealth

_STARTING_S: Final = 8.0
"""Time after its start in which a daemon may still be opening cameras and connecting."""
_SILENT_S: Final = 3 * PERIOD_S
_LOOK_EVERY_S: Final = 0.25
_JOURNAL: Final = "see `journalctl -u edge-classifierd`"


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon on this machine that uses the outbox of the configuration."""

    process: int
    """Process id; 0 when unknown."""
    health: ReportedHealth | None
    problem: CheckResult | None = None
    """Why there is no health, or why it is not used."""

    @property
    def named(self) -> str:
        """Return `process 4711`."""
        return f"process {self.process}" if self.process else "another process"


def find_daemon(outbox: Path, state: Path) -> RunningDaemon | None:
    """Return the daemon that has the outbox open. Wait a few seconds for one that was just started."""
    while True:
        process = daemon_on(outbox)
        if process is None:
            return None
        daemon = _with_health(process, state)
        age_s = process_age_s(process) if process else _STARTING_S
        if age_s >= _STARTING_S or (daemon.health is not None and not _starts(daemon.health)):
            return daemon
        time.sleep(_LOOK_EVERY_S)


def daemon_on(outbox: Path) -> int | None:
    """Return the process that has the outbox open, 0 when it is unknown which, None when there is none.

    Reads /proc/locks and takes no lock itself, because even a short lock could prevent a daemon from starting.
    """
    with contextlib.suppress(OSError):
        status = outbox.with_name(f"{outbox.name}.last").stat()
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        # On some file systems the device number differs from that of stat. Then the inode number decides.
        for inode_only in (False, True):
            for fields in (line.split() for line in lines):
                if "FLOCK" not in fields or len(fields) < 6:
                    continue
                if fields[5] == wanted or (inode_only and fields[5].endswith(f":{status.st_ino}")):
                    return max(0, int(fields[4]))
    return None


def check_daemon(daemon: RunningDaemon) -> list[CheckResult]:
    """Check that the daemon reports its health and is connected, and return its other reasons as warnings."""
    name, health = "daemon", daemon.health
    if daemon.problem is not None:
        return [daemon.problem]
    if health is None:
        return [CheckResult(name, "warning", f"{daemon.named} runs and has not reported its health", _JOURNAL)]
    if health.connected:
        results = [CheckResult(name, "ok", f"{daemon.named} runs and is connected to the broker")]
    else:
        said = f"{daemon.named} runs and is not connected to the broker"
        results = [CheckResult(name, "failed", said, _JOURNAL)]
    pipelines = tuple(f"{pipeline}: " for pipeline in health.pipelines)
    return results + [
        CheckResult(name, "warning", reason) for reason in health.reasons if not reason.startswith(pipelines)
    ]


def _with_health(process: int, state: Path) -> RunningDaemon:
    """Read the health that this process reported. A file of an earlier process is ignored."""
    age_s = process_age_s(process) if process else None
    for file in possible_paths(state):
        try:
            health = read_health(file)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            sentence = f"process {process} runs, but {file}, where it reports its health, cannot be read"
            problem = CheckResult("daemon", "warning", sentence, "run this as root (`sudo`)")
            return RunningDaemon(process, None, problem)
        except (OSError, ValueError) as error:
            problem = CheckResult("daemon", "warning", f"{file}: cannot be read ({error})", _JOURNAL)
            return RunningDaemon(process, None, problem)
        if age_s is None or health.uptime_s <= age_s + 1:
            return RunningDaemon(process, health, _hang(process, age_s, health))
    return RunningDaemon(process, None)


def _hang(process: int, age_s: float | None, health: ReportedHealth) -> CheckResult | None:
    """Return a failure for a process that stopped reporting. Compares ages, because the wall clock may be set."""
    if age_s is None or age_s - health.uptime_s <= _SILENT_S:
        return None
    said = f"process {process} hangs: it last reported its health {age_s - health.uptime_s:.0f} s ago"
    return CheckResult("daemon", "failed", said, f"{_JOURNAL}; restart it")


def _starts(health: ReportedHealth) -> bool:
    """Return whether the daemon still waits for the broker or a camera."""
    awaited = any(
        not (pipeline.online or pipeline.resting or pipeline.reasons) for pipeline in health.pipelines.values()
    )
    return awaited or not health.connected
