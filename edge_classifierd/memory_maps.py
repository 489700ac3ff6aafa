"""Releases resident pages of mapped files, such as models and shared libraries."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_MAPS: Final = Path("/proc/self/maps")
_SMAPS: Final = Path("/proc/self/smaps")
_MADV_DONTNEED: Final = 4


@dataclass(frozen=True, slots=True)
class MemoryMapping:
    """A range of this process's addresses and the file behind it."""

    start: int
    end: int
    permissions: str
    """As in /proc/self/maps: `r-xp`."""
    file: str


def release_file(file: Path) -> None:
    """Release the resident pages of a file that is mapped for reading, such as a loaded model.

    A later read gets them from the page cache. The CPU backend has its own packed copy of the weights and reads the
    file only while loading: without this the file would stay resident beside the copy. Does nothing where the file is
    not mapped or /proc is missing.
    """
    name = str(file.resolve())
    try:
        mappings = [mapping for mapping, _ in _read(_MAPS) if mapping.file == name and "w" not in mapping.permissions]
    except OSError:
        return
    _release(mappings)


def read_only_mappings() -> frozenset[MemoryMapping]:
    """Return the private read-only mappings of files: code, constants and relocated data."""
    try:
        return frozenset(mapping for mapping, _ in _read(_MAPS) if _is_read_only(mapping))
    except OSError:
        return frozenset()


def release_unchanged(known: Collection[MemoryMapping]) -> None:
    """Release the resident pages of those `known` mappings whose content is that of their files.

    Start-up reads eight times as much of the libraries as normal operation, and the kernel counts these pages as
    resident until somebody else needs the memory. Pages that are used again come back from the page cache.

    `known` comes from an earlier call of `read_only_mappings`: a library that is being loaded is first mapped as a
    whole, and data that is not in the file is then placed in the same range. Relocated data is not released, also where
    it is swapped out.
    """
    try:
        unchanged = [
            mapping
            for mapping, sizes in _read(_SMAPS)
            if mapping in known and sizes["Rss"] and not (sizes["Anonymous"] or sizes["Swap"])
        ]
    except (OSError, KeyError):
        return
    _release(unchanged)


def _is_read_only(mapping: MemoryMapping) -> bool:
    return (
        mapping.permissions.startswith("r-")
        and mapping.permissions.endswith("p")
        and mapping.file.startswith("/")
        and not mapping.file.startswith("/dev/")
    )


def _read(source: Path) -> Iterator[tuple[MemoryMapping, dict[str, int]]]:
    """Yield each mapping of a file or device; from smaps with its sizes in kB. Raises OSError."""
    mapping: MemoryMapping | None = None
    sizes: dict[str, int] = {}
    # Line by line: the whole text would take a megabyte. A name may contain anything but a line feed.
    with source.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            # address range, permissions, offset, device, inode, path; in smaps followed by lines of name, size, unit
            fields = line.split(maxsplit=5)
            if not fields[0].endswith(":"):
                if mapping is not None:
                    yield mapping, sizes
                mapping, sizes = None, {}
                if len(fields) == 6:
                    start, end = (int(address, 16) for address in fields[0].split("-"))
                    mapping = MemoryMapping(start, end, fields[1], fields[5].rstrip("\n"))
            elif mapping is not None and fields[-1] == "kB":
                sizes[fields[0].removesuffix(":")] = int(fields[1])
    if mapping is not None:
        yield mapping, sizes


def _release(mappings: Iterable[MemoryMapping]) -> None:
    try:
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for mapping in mappings:
        madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED)
