"""Starting a child process that has nothing of ours but what it needs, and collecting those that are slow to end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from edge_classifierd.inference.edgetpu.devices import ROOT
from edge_classifierd.inference.runtime import CHOICE

_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", CHOICE, ROOT)
_KEPT_PREFIXES: Final = ("LC_", "LD_", "PYTHON", "OMP_")

_leftovers: list[subprocess.Popen[bytes]] = []


def shared_memory(size: int) -> int:
    """A file without a name that nobody can make shorter: reading it never raises SIGBUS, closing it frees it.

    Raises OSError.
    """
    descriptor = os.memfd_create("edge-classifierd-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


def spawn(memory: int, kept: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], socket.socket, int, int]:
    """Start the child process; return the process, the control socket, its stderr and our end of the lifeline.

    The descriptors `memory` and `kept` stay open in it. Secrets in our environment do not reach it. Raises OSError.
    """
    package_root = str(Path(__file__).resolve().parents[3])
    environment = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH"))))
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        control, child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.callback(control.close)
        theirs.callback(child_control.close)
        lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
        ours.callback(os.close, lifeline_write)
        theirs.callback(os.close, lifeline_read)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        ours.callback(os.close, stderr_read)
        theirs.callback(os.close, stderr_write)
        os.set_blocking(stderr_read, False)
        descriptors = (child_control.fileno(), memory, lifeline_read)
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "edge_classifierd.inference.edgetpu.child_process", *map(str, descriptors)],
            stdin=subprocess.DEVNULL, stdout=stderr_write, stderr=stderr_write,
            close_fds=True, pass_fds=(*descriptors, *kept), start_new_session=True, env=environment,
        )  # fmt: skip
        ours.pop_all()
    return process, control, stderr_read, lifeline_write


def leave_to_reap(process: subprocess.Popen[bytes]) -> None:
    """Remember a killed child that the kernel could not end at once (stuck in a USB transfer)."""
    _leftovers.append(process)


def reap_leftovers() -> int:
    """Collect those that have ended since; returns how many have not."""
    for process in _leftovers[:]:
        if process.poll() is not None:
            _leftovers.remove(process)
    return len(_leftovers)
