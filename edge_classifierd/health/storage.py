"""Finds out whether a folder survives a reboot. A read-only system keeps its state on a tmpfs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


class _Mount(NamedTuple):
    point: str
    kind: str
    options: str


def volatile_reason(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return why `path`, which need not exist yet, does not survive a reboot, one sentence; None when it does.

    For an overlay (the read-only mode of raspi-config) the folder with its changes decides. None also when unknown.
    """
    try:
        mounts = _mounts(mountinfo.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    mount = _mount_of(path, mounts)
    if mount is None:
        return None
    kind = mount.kind
    upper = re.search(r"(?:^|,)upperdir=([^,]*)", mount.options)
    if kind == "overlay" and upper:
        below = _mount_of(Path(upper[1]), [other for other in mounts if other.kind != "overlay"])
        # The folder of a container's overlay is not visible inside the container; then / matches by chance.
        kind = below.kind if below is not None and below.point != "/" else kind
    if kind not in _IN_MEMORY:
        return None
    where = f"{mount.kind} on {mount.point}"
    return f"{path} is kept in memory ({where}): waiting events survive a crash, but not a power loss"


def _mounts(text: str) -> list[_Mount]:
    """Parse proc_pid_mountinfo(5): `36 35 98:0 / /mnt rw,noatime - ext3 /dev/sda1 rw,errors=continue`."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) > 4 and len(rest) > 2:
            mounts.append(_Mount(_plain(fields[4]), rest[0], rest[2]))
    return mounts


def _mount_of(path: Path, mounts: list[_Mount]) -> _Mount | None:
    whole = os.path.realpath(path)
    found = None
    for mount in mounts:  # a later mount covers an earlier one on the same point
        inside = whole == mount.point or whole.startswith(mount.point.rstrip("/") + "/")
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
