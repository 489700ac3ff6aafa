"""What starting needed leaves the memory a second later, and again after a reload."""

from __future__ import annotations

import mmap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_classifierd.daemon.process import PageRelease

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel does not tell its mappings")


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def synchronised(self) -> bool:
        return True


def is_resident(file: Path) -> bool:
    smaps = Path("/proc/self/smaps").read_text().partition(f"{file}\n")[2]
    return int(smaps.partition("\nRss:")[2].split()[0]) > 0


def test_a_library_leaves_once_it_was_there_for_a_second(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(bytes(4 * mmap.PAGESIZE))
    clock = Clock()
    settling = PageRelease(clock)
    settling.tick()
    with library.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    mapped[0]
    clock.now_s += 1.0
    settling.tick()
    assert is_resident(library)  # it may only just be loading

    settling.schedule()
    settling.tick()
    clock.now_s += 0.9
    settling.tick()
    assert is_resident(library)
    clock.now_s += 0.1
    settling.tick()
    assert not is_resident(library)

    mapped[0]
    clock.now_s += 1000
    settling.tick()
    assert is_resident(library)  # nothing was started since
    mapped.close()
