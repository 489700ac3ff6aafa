"""Processes of this machine, read from /proc. Any of them may end, and close a file, between two looks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands() -> Iterator[tuple[int, list[bytes]]]:
    """Yield the id and the words of the command of each process."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield int(file.parent.name), file.read_bytes().rstrip(b"\0").split(b"\0")


def is_running(process: int) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def open_files(process: int) -> dict[Path, str]:
    """Return what each file descriptor of a process leads to, by its link in /proc."""
    found = {}
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[link] = str(link.readlink())
    return found
