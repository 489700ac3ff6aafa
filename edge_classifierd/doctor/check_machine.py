"""Checks the machine: disk, memory, temperature, power supply, clock, groups, and the watchdog of the service."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_classifierd.doctor.check_result import CheckResult
from edge_classifierd.errors import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edge_classifierd.clock import Clock
    from edge_classifierd.doctor.check_result import Verdict
    from edge_classifierd.doctor.running_daemon import RunningDaemon
    from edge_classifierd.health.board import BoardState, Throttling

SERVICE: Final = "edge-classifierd.service"
_ACCOUNT: Final = "edge-classifierd"
_SYNCS: Final = 5
_SLOW_SYNC_MS: Final = 500.0
_LITTLE_DISK_MB, _NO_DISK_MB = 500.0, 50.0
_LITTLE_MEMORY_MB, _NO_MEMORY_MB = 150.0, 50.0
_HOT_C: Final = 80.0
_SYSTEMCTL_S: Final = 5.0


def check_outbox(path: Path, daemon: RunningDaemon | None) -> CheckResult:
    """Check that the outbox's folder can be written, and how fast; beside a daemon use what it reports."""
    name = "outbox"
    if daemon is not None:
        return _outbox_of(daemon, path)
    folder = path.parent
    try:
        if not folder.is_dir():
            return _not_yet_created(name, folder)
        times_ms = _sync_times_ms(folder)
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return _no_permission(name, path)
    except PermissionError:
        return _no_permission(name, folder)
    except OSError as error:
        remedy = "events would be kept in memory only: free or mount the disk, or correct outbox.path"
        return CheckResult(name, "failed", f"{folder}: cannot be written ({error.strerror})", remedy)
    return _speed(name, folder, times_ms)


def _outbox_of(daemon: RunningDaemon, path: Path) -> CheckResult:
    said = f"{path}: in use by the running daemon ({daemon.named})"
    if daemon.health is None:
        return CheckResult("outbox", "warning", f"{said}, not tested", "stop the daemon to test it")
    if daemon.health.durable:
        return CheckResult("outbox", "ok", f"{said}, which can write it")
    said += ": events would not survive a loss of power"
    return CheckResult("outbox", "failed", said, "see the warning of the daemon above")


def _speed(name: str, folder: Path, times_ms: list[float]) -> CheckResult:
    typical_ms = statistics.median(times_ms)
    said = f"{folder}: a write is on the disk after {typical_ms:.1f} ms (worst of {_SYNCS}: {max(times_ms):.1f} ms)"
    if typical_ms > _SLOW_SYNC_MS:
        return CheckResult(name, "warning", said, "the card is very slow or worn; replace it")
    return CheckResult(name, "ok", said)


def check_board(board: BoardState, state: Path) -> list[CheckResult]:
    """Check disk, memory, temperature and power supply where the machine reports them."""
    results = []
    if board.disk_free_mb is not None:
        verdict = _below(board.disk_free_mb, _LITTLE_DISK_MB, _NO_DISK_MB)
        free = f"{board.disk_free_mb / 1000:.1f} GB" if board.disk_free_mb >= 1000 else f"{board.disk_free_mb:.0f} MB"
        said = f"{free} free on the disk of {state}"
        results.append(CheckResult("disk", verdict, said, "" if verdict == "ok" else "free some"))
    if board.available_mb is not None:
        verdict = _below(board.available_mb, _LITTLE_MEMORY_MB, _NO_MEMORY_MB)
        remedy = "" if verdict == "ok" else "end other programs, or choose a smaller model"
        results.append(CheckResult("memory", verdict, f"{board.available_mb:.0f} MB available", remedy))
    if board.temperature_c is not None:
        hot = board.temperature_c >= _HOT_C
        said = f"{board.temperature_c:.0f} °C"
        results.append(CheckResult("temperature", "warning" if hot else "ok", said, "cool the board" if hot else ""))
    if board.throttling is not None:
        results.append(_supply(board.throttling))
    return results


def check_clock(clock: Clock) -> CheckResult:
    """Check that the clock is synchronised."""
    if clock.synchronised():
        return CheckResult("clock", "ok", "synchronised")
    remedy = "allow NTP (`timedatectl set-ntp true`); until then events say clock_synchronised: false"
    return CheckResult("clock", "warning", "not synchronised with a time server", remedy)


def check_groups(wanted: Sequence[str]) -> CheckResult:
    """Check the groups of the service's account, or of this account where there is no service account."""
    account = _account()
    if account is None:
        who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
        sentence = f"{who} runs this; there is no account {_ACCOUNT} on this machine"
        return CheckResult("groups", "unused", sentence)
    names = _group_names(os.getgrouplist(account.pw_name, account.pw_gid))
    absent = [name for name in wanted if name not in names and _exists(name)]
    if not absent:
        held = ", ".join(sorted(names & set(wanted)))
        if not held:
            return CheckResult("groups", "unused", "no device needs a group")
        return CheckResult("groups", "ok", f"{account.pw_name} is in {held}")
    then = "restart the service" if account.pw_name == _ACCOUNT else "log in again"
    remedy = f"`sudo usermod -aG {','.join(absent)} {account.pw_name}` and {then}"
    return CheckResult("groups", "warning", f"{account.pw_name} is not in {' and '.join(absent)}", remedy)


def check_watchdog(root: Path = Path("/")) -> CheckResult:
    """Check that systemd restarts a daemon that hangs."""
    name = "watchdog"
    systemctl = shutil.which("systemctl")
    if systemctl is None or not (root / "run/systemd/system").is_dir():
        return CheckResult(name, "unused", "systemd does not run here, so a daemon that hangs is not restarted")
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            [systemctl, "show", SERVICE, "--property=LoadState,ActiveState,WatchdogUSec,NRestarts"],
            capture_output=True,
            timeout=_SYSTEMCTL_S,
            check=False,
            text=True,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return CheckResult(name, "warning", "systemctl does not answer", "see `systemctl status`")
    properties = dict(line.partition("=")[::2] for line in answer.splitlines())
    if properties.get("LoadState") != "loaded":
        return CheckResult(name, "unused", f"{SERVICE} is not installed", "install.sh installs it")
    return _unit_result(name, properties)


def _unit_result(name: str, properties: dict[str, str]) -> CheckResult:
    watchdog = properties.get("WatchdogUSec", "0")
    state = properties.get("ActiveState", "unknown")
    restarts = int(properties["NRestarts"]) if re.fullmatch(r"\d{1,9}", properties.get("NRestarts", "")) else 0
    said = f"{SERVICE} is {state}, restarted {counted(restarts, 'time')}, watchdog {watchdog}"
    if watchdog in {"0", "infinity", ""}:
        return CheckResult(name, "warning", said, "set WatchdogSec= in the unit")
    if state == "failed" or restarts > 0:
        verdict: Verdict = "failed" if state in {"failed", "activating"} else "warning"
        return CheckResult(name, verdict, said, f"see `journalctl -u {SERVICE}`")
    if state == "inactive":
        return CheckResult(name, "warning", said, f"start it: `sudo systemctl start {SERVICE}`")
    return CheckResult(name, "ok", said)


def _no_permission(name: str, place: Path) -> CheckResult:
    remedy = "run this as the daemon's account (`sudo -u …`), or give the outbox and its folder to that account"
    return CheckResult(name, "failed", f"{place}: permission denied", remedy)


def _not_yet_created(name: str, folder: Path) -> CheckResult:
    above = nearest_existing(folder)
    if os.access(above, os.W_OK | os.X_OK):
        return CheckResult(name, "ok", f"{folder}: the daemon will make it")
    return CheckResult(
        name, "failed", f"{folder}: is not there and cannot be made", f"make it: `sudo mkdir -p {folder}`"
    )


def nearest_existing(folder: Path) -> Path:
    """The folder itself or what it would be made in, as far as this account can see; raises nothing."""
    return next(one for one in (folder, *folder.parents) if os.access(one, os.F_OK))


def _sync_times_ms(folder: Path) -> list[float]:
    times_ms = []
    descriptor, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
    try:
        for _ in range(_SYNCS):
            start_s = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            times_ms.append((time.perf_counter() - start_s) * 1000)
    finally:
        os.close(descriptor)
        Path(name).unlink()
    return times_ms


def _supply(throttling: Throttling) -> CheckResult:
    remedies = {
        "under_voltage": "use a stronger power supply",
        "frequency_capped": "cool the board or use a stronger supply",
        "throttled": "cool the board or use a stronger supply",
        "soft_temperature_limit": "cool the board",
    }
    past = "since the start"
    for when, flags in (("now", throttling.now), (past, throttling.since_boot)):
        said = [flag for flag in remedies if getattr(flags, flag)]
        if said:
            words = " and ".join(flag.replace("_", " ") for flag in said)
            return CheckResult("supply", "warning" if when == past else "failed", f"{words} {when}", remedies[said[0]])
    return CheckResult("supply", "ok", "no under-voltage and no throttling since the start")


def _below(value: float, little: float, none: float) -> Verdict:
    return "failed" if value < none else "warning" if value < little else "ok"


def _account() -> pwd.struct_passwd | None:
    """Return the account that the daemon runs under; None for root and for a user without an entry."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_ACCOUNT)
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.geteuid()) if os.geteuid() != 0 else None
    return None


def _group_names(numbers: Iterable[int]) -> set[str]:
    names = set()
    for number in numbers:
        with contextlib.suppress(KeyError):
            names.add(grp.getgrgid(number).gr_name)
    return names


def _exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True
