"""How much memory a training can have, and whether the kernel has ended a process of this service for want of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")


def available_memory_bytes() -> int | None:
    """Return how much memory is available: the kernel's estimate, or the rest of the service's limit if that is less.

    None where neither can be read.
    """
    found = [one for one in (_of_machine(), _of_limit()) if one is not None]
    return min(found, default=None)


def kills_for_memory() -> int | None:
    """Return how many processes of this service the kernel has ended for want of memory; None where unknown."""
    folder = _own_cgroup()
    return None if folder is None else _fields(folder / "memory.events").get("oom_kill")


def _of_machine() -> int | None:
    kibibytes = _fields(_MEMINFO).get("MemAvailable:")
    return None if kibibytes is None else kibibytes * 1024


def _of_limit() -> int | None:
    """Return what `memory.max` leaves; pages of files that can be given back count as available."""
    folder = _own_cgroup()
    if folder is None:
        return None
    try:
        most, used = int((folder / "memory.max").read_text()), int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # `max`: there is no limit
        return None
    return most - used + _fields(folder / "memory.stat").get("inactive_file", 0)


def _own_cgroup() -> Path | None:
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    return None if own is None else _CGROUPS / own


def _fields(file: Path) -> dict[str, int]:
    """Return the numbers of a file with lines of a name and a number."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) >= 2 and line[1].isdecimal()}
