"""Starts the child process of a training, watches how it gets on, and ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from edge_classifierd.teaching.training.memory import kills_for_memory

if TYPE_CHECKING:
    from edge_classifierd.clock import Clock

_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONFAULTHANDLER")
_KEPT_PREFIXES: Final = ("LC_", "LD_")
_LIMITS: Final = {
    # The matrices are small: with several threads the fit took five times as long.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # For glibc: a larger block of memory (in bytes) goes back to the system as soon as it is freed. Without this, glibc
    # raises the limit itself, up to 32 MB, and a training of 1,000 pictures takes more memory.
    "MALLOC_MMAP_THRESHOLD_": "1000000",
}
_BUSY_AFTER_S: Final = 30.0
_BUSY_SHARE: Final = 0.15


def start_child(messages: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the child in a process group of its own, without the secrets in this process's environment.

    It ends with the thread that calls this. Its stderr goes to `messages`. It stays in the session: where the kernel
    groups processes by session (`sched_autogroup_enabled`), a low priority counts only inside the group.

    Raises:
        OSError: It cannot be started.
    """
    environment = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    package_root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    environment |= {"PYTHONPATH": path} | _LIMITS
    return subprocess.Popen(  # noqa: S603 - a module of this package
        [sys.executable, "-P", "-m", "edge_classifierd.teaching.training.child", str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages,
        close_fds=True, process_group=0, env=environment,
    )  # fmt: skip


class ChildWork:
    """Measures whether a process gets its share of a core."""

    def __init__(self, process: int, clock: Clock) -> None:
        self._file = Path(f"/proc/{process}/stat")
        self._clock = clock
        self._since_s, self._used_s = clock.monotonic(), 0.0
        self._waits = False

    def waits(self) -> bool:
        """Return whether the process had less than 15 % of a core in the last 30 s."""
        now_s = self._clock.monotonic()
        if now_s - self._since_s >= _BUSY_AFTER_S:
            used_s = self._used()
            self._waits = used_s - self._used_s < _BUSY_SHARE * (now_s - self._since_s)
            self._since_s, self._used_s = now_s, used_s
        return self._waits

    def _used(self) -> float:
        try:
            fields = self._file.read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return self._used_s


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and what it has started, unless it was collected already."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def unexpected_end(code: int, kills: int | None, messages: str) -> str:
    """Return why a child has ended without an answer; `messages` is what it wrote to stderr."""
    if code == -signal.SIGKILL:
        now = kills_for_memory()
        remedy = "the pictures are untouched; stop other programs, or train with fewer pictures"
        if kills is not None and now is not None and now > kills:
            return f"the kernel ended the training for want of memory; {remedy}"
        return f"the training was killed, most likely by the kernel for want of memory; {remedy}"
    last = messages.strip().rpartition("\n")[2]
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the training ended unexpectedly ({how}{f': {last}' if last else ''}); please report this with the log"
