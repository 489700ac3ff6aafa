"""Processes of this machine, read from /proc. A process may end, or close a file, while it is read."""

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
    """Return whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def open_files(process: int) -> dict[Path, str]:
    """Return the target of each open file of a process, by its link in /proc."""
    found = {}
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found[link] = str(link.readlink())
    return found
