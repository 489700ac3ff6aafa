"""freeze.py PID NAME: freezes the one thread of that name while all others of the process go on, until that has ended.

As if the thread were stuck in a call into a driver: `ptrace` stops it alone, which SIGSTOP cannot. Prints `frozen` once
it stands. It is stopped in a sleep that has lasted a while: then it waits for what it reads from, and holds no lock,
least of all the interpreter's, which would stop the others too. Ends with 0 when the process has ended, with 1 when it
has not within 120 s. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

SEIZE, INTERRUPT = 0x4206, 0x4207
WAIT_ALL = 0x40000000  # __WALL: threads, too
PATIENCE_S = 120.0
NAMED_WITHIN_S = 20.0
A_WHILE_S = 0.001  # a camera that nothing paces leaves no longer rest

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, thread: int) -> None:
    if libc.ptrace(request, thread, None, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace of thread {thread}: {os.strerror(number)}")


def find(process: int, name: str) -> int:
    """The thread's number. The names are the kernel's, of at most 15 bytes; the daemon tells it them now and then."""
    names: dict[int, str] = {}
    end_s = time.monotonic() + NAMED_WITHIN_S
    while time.monotonic() < end_s:
        tasks = Path(f"/proc/{process}/task").iterdir()
        names = {int(task.name): (task / "comm").read_text().rstrip("\n") for task in tasks}
        found = [thread for thread, its_name in names.items() if its_name == name[:15]]
        if len(found) == 1:
            return found[0]
        time.sleep(0.2)
    raise SystemExit(f"not one thread is called {name[:15]!r}; there are {sorted(names.values())}")


def sleep_number(process: int, thread: int) -> str | None:
    """Which of its sleeps the thread is in; None when it is awake."""
    status = Path(f"/proc/{process}/task/{thread}/status").read_text()
    return status[status.index("voluntary_ctxt_switches") :] if "\nState:\tS" in status else None


def freeze(process: int, thread: int) -> None:
    ptrace(SEIZE, thread)
    while True:
        begun = sleep_number(process, thread)
        time.sleep(A_WHILE_S)
        if begun is not None and sleep_number(process, thread) == begun:
            break
    ptrace(INTERRUPT, thread)
    os.waitpid(thread, WAIT_ALL)


def main() -> int:
    process, name = int(sys.argv[1]), sys.argv[2]
    thread = find(process, name)
    freeze(process, thread)
    print(f"frozen: thread {thread}, {name}", flush=True)
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        # A traced thread that has ended lies in the way of its process's end until its tracer has looked.
        waited, status = os.waitpid(thread, WAIT_ALL | os.WNOHANG)
        if waited and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            return 0
        time.sleep(0.05)
    print(f"process {process} still lives after {PATIENCE_S:.0f} s", file=sys.stderr)
    return 1  # with this process the thread's freezing ends


if __name__ == "__main__":
    sys.exit(main())
