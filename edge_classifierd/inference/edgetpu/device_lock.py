"""The lock on an Edge TPU: a second process that opens the same one makes the first one crash.

It is an flock on a file named after the port, in `/run/edge-classifierd` (the service's directory) and in `/run/lock`
(everybody's), as far as they can be used: so processes of different users and sandboxes share at least one of them.
Where neither can be used it is in the temporary directory. The child process inherits the open files and with them the
lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge_classifierd.errors import MissingError
from edge_classifierd.inference.edgetpu.devices import root_directory

if TYPE_CHECKING:
    from edge_classifierd.inference.edgetpu.devices import Tpu


class BusyError(MissingError):
    """Another process, or another pipeline of this one, uses the Edge TPU."""


class DeviceLock:
    """The lock files of one Edge TPU, locked until `close`."""

    def __init__(self, tpu: Tpu, descriptors: tuple[int, ...]) -> None:
        self.tpu = tpu
        self.descriptors = descriptors

    def close(self) -> None:
        """Unlock the device for this process; may be called twice."""
        held, self.descriptors = self.descriptors, ()
        for descriptor in held:
            os.close(descriptor)


def claim(tpu: Tpu, root: Path | None = None) -> DeviceLock:
    """Lock `tpu`. Raises BusyError that names the holder, MissingError when no lock file can be created."""
    base = root or root_directory()
    name = f"edge-classifierd-{tpu.kind}-{tpu.port or tpu.index}.lock"
    taken: list[int] = []
    try:
        reasons = [
            reason
            for folder in (base / "run/edge-classifierd", base / "run/lock")
            if (reason := _lock(folder / name, tpu, taken))
        ]
        if not taken and (reason := _lock(Path(tempfile.gettempdir()) / name, tpu, taken)):
            reasons.append(reason)
    except BaseException:
        for descriptor in taken:
            os.close(descriptor)
        raise
    if not taken:
        raise MissingError(f"{tpu}: no lock file can be made: {'; '.join(reasons)}")
    return DeviceLock(tpu, tuple(taken))


def _lock(path: Path, tpu: Tpu, taken: list[int]) -> str | None:
    """Lock one file and add it to `taken`, or return why it cannot be opened. Raises BusyError when it is locked."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            descriptor = os.open(path, flags)  # the kernel refuses O_CREAT for others' files in /run/lock
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, 0o644)
            os.fchmod(descriptor, 0o644)  # other users lock it too, whatever the umask is
    except OSError as error:
        return f"{path}: {error.strerror}"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(os.fstat(descriptor))
        os.close(descriptor)
        raise BusyError(
            f"the Edge TPU {tpu} is in use by {holder}, and only one process can use it; "
            "stop that one or choose another `device`"
        ) from error
    taken.append(descriptor)
    return None


def _holder(status: os.stat_result) -> str:
    """Return who holds the flock on a file, from /proc/locks."""
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        for fields in (line.split() for line in lines):
            if "FLOCK" in fields and (wanted in fields or f":{status.st_ino} " in f"{fields[5]} "):
                pid = int(fields[4])
                return "another pipeline of this process" if pid == os.getpid() else _named(pid)
    return "another process"


def _named(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = ""
    return f"process {pid} ({name})" if name else f"process {pid}" if pid > 0 else "another process"
