"""Starts the child process with a minimal environment, and collects children that end slowly."""

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
    """Create an unnamed file whose size is fixed, so that reading it never raises SIGBUS; return its descriptor.

    Raises OSError.
    """
    descriptor = os.memfd_create("edge-classifierd-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


def spawn(memory: int, kept: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], socket.socket, int, int]:
    """Start the child process; return the process, the control socket, its stderr and the parent's end of the lifeline.

    The descriptors `memory` and `kept` stay open in it. Secrets in the environment do not reach it. Raises OSError.
    """
    package_root = str(Path(__file__).resolve().parents[3])
    environment = {
        name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package_root, environment.get("PYTHONPATH"))))
    with contextlib.ExitStack() as child_ends, contextlib.ExitStack() as parent_ends:
        control, child_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent_ends.callback(control.close)
        child_ends.callback(child_control.close)
        lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
        parent_ends.callback(os.close, lifeline_write)
        child_ends.callback(os.close, lifeline_read)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        parent_ends.callback(os.close, stderr_read)
        child_ends.callback(os.close, stderr_write)
        os.set_blocking(stderr_read, False)
        descriptors = (child_control.fileno(), memory, lifeline_read)
        process = subprocess.Popen(  # noqa: S603 - a module of this package
            [sys.executable, "-P", "-m", "edge_classifierd.inference.edgetpu.child_process", *map(str, descriptors)],
            stdin=subprocess.DEVNULL, stdout=stderr_write, stderr=stderr_write,
            close_fds=True, pass_fds=(*descriptors, *kept), start_new_session=True, env=environment,
        )  # fmt: skip
        parent_ends.pop_all()
    return process, control, stderr_read, lifeline_write


def leave_to_reap(process: subprocess.Popen[bytes]) -> None:
    """Remember a killed child that has not ended yet (a USB transfer may delay that)."""
    _leftovers.append(process)


def reap_leftovers() -> int:
    """Collect the remembered children that have ended; return how many have not."""
    for process in _leftovers[:]:
        if process.poll() is not None:
            _leftovers.remove(process)
    return len(_leftovers)
