"""The running daemon as the doctor sees it: its process, and the health that it last reported in its file."""

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
"""For so long after its start a daemon may still be opening cameras and connecting."""
_SILENT_S: Final = 3 * PERIOD_S
_LOOK_EVERY_S: Final = 0.25
_JOURNAL: Final = "see `journalctl -u edge-classifierd`"


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon that runs on this machine with the examined configuration's outbox."""

    process: int
    """0 when the kernel does not tell it."""
    health: ReportedHealth | None
    trouble: CheckResult | None = None
    """Why there is no health, or why it does not count."""

    @property
    def named(self) -> str:
        """`process 4711`."""
        return f"process {self.process}" if self.process else "another process"


def find_daemon(outbox: Path, state: Path) -> RunningDaemon | None:
    """Find the daemon that has the outbox open; one that was just started is given a few seconds."""
    while True:
        process = daemon_on(outbox)
        if process is None:
            return None
        daemon = _ask(process, state)
        age_s = process_age_s(process) if process else _STARTING_S
        if age_s >= _STARTING_S or (daemon.health is not None and not _starts(daemon.health)):
            return daemon
        time.sleep(_LOOK_EVERY_S)


def daemon_on(outbox: Path) -> int | None:
    """The process that has the outbox open (0 when it cannot be told which), None when none has.

    Looks the lock up in /proc/locks and takes none: a lock of ours, however short, could keep a daemon from starting.
    """
    with contextlib.suppress(OSError):
        status = outbox.with_name(f"{outbox.name}.last").stat()
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        # Some file systems show another device number there than stat tells: then the file's number decides.
        for inode_only in (False, True):
            for fields in (line.split() for line in lines):
                if "FLOCK" not in fields or len(fields) < 6:
                    continue
                if fields[5] == wanted or (inode_only and fields[5].endswith(f":{status.st_ino}")):
                    return max(0, int(fields[4]))
    return None


def check_daemon(daemon: RunningDaemon) -> list[CheckResult]:
    """Whether the running daemon reports its health and is connected, and what else it complains of."""
    name, health = "daemon", daemon.health
    if daemon.trouble is not None:
        return [daemon.trouble]
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


def _ask(process: int, state: Path) -> RunningDaemon:
    """Read what this process reported; a file that an earlier process left behind does not count."""
    age_s = process_age_s(process) if process else None
    for file in possible_paths(state):
        try:
            health = read_health(file)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            sentence = f"process {process} runs, but {file}, where it reports its health, cannot be read"
            trouble = CheckResult("daemon", "warning", sentence, "run this as root (`sudo`)")
            return RunningDaemon(process, None, trouble)
        except (OSError, ValueError) as error:
            trouble = CheckResult("daemon", "warning", f"{file}: cannot be read ({error})", _JOURNAL)
            return RunningDaemon(process, None, trouble)
        if age_s is None or health.uptime_s <= age_s + 1:
            return RunningDaemon(process, health, _silence(process, age_s, health))
    return RunningDaemon(process, None)


def _silence(process: int, age_s: float | None, health: ReportedHealth) -> CheckResult | None:
    """Complain of a process that stopped reporting; by its age, as the wall clock may have been set since."""
    if age_s is None or age_s - health.uptime_s <= _SILENT_S:
        return None
    said = f"process {process} hangs: it last reported its health {age_s - health.uptime_s:.0f} s ago"
    return CheckResult("daemon", "failed", said, f"{_JOURNAL}; restart it")


def _starts(health: ReportedHealth) -> bool:
    """Whether the broker or a camera is still awaited."""
    awaited = any(not pipeline.online and not pipeline.reasons for pipeline in health.pipelines.values())
    return awaited or not health.connected
