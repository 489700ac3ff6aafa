"""Pages of mapped files leave the memory, and nothing that is not in the files ever does: on real mappings."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from edge_classifierd.memory_maps import MemoryMapping, read_only_mappings, release_file, release_unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel does not tell its mappings")

SIZE: Final = 64 * mmap.PAGESIZE
CONTENT: Final = bytes(range(256)) * (SIZE // 256)


def resident_kb(file: Path) -> int:
    """Of all mappings of a file."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):
            counts = fields[-1] == str(file)
        elif counts and fields[0] == "Rss:":
            total += int(fields[1])
    return total


def mapping_of(file: Path) -> MemoryMapping:
    (found,) = (mapping for mapping in read_only_mappings() if mapping.file == str(file))
    return found


@pytest.fixture(params=["a file", "a file (deleted)", "a\u00a0: b"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def mapped(file: Path) -> Iterator[mmap.mmap]:
    """Mapped as a library's code is, every page read."""
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), SIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    assert mapped[:] == CONTENT
    with mapped:
        yield mapped


def test_pages_leave_the_memory_and_come_back_when_they_are_read(file: Path, mapped: mmap.mmap) -> None:
    assert resident_kb(file) == SIZE // 1024
    release_unchanged({mapping_of(file)})
    assert resident_kb(file) == 0
    assert mapped[:] == CONTENT


def test_unknown_mappings_are_not_released(file: Path, mapped: mmap.mmap) -> None:
    release_unchanged(read_only_mappings() - {mapping_of(file)})
    assert resident_kb(file) == SIZE // 1024
    assert mapped[:] == CONTENT


def test_data_that_is_not_in_the_file_stays(file: Path) -> None:
    """As a loader relocates data: written, then protected."""
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), SIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    mapped[5000:5005] = b"apart"
    assert all(mapping.file != str(file) for mapping in read_only_mappings())
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(SIZE), mmap.PROT_READ) == 0
    release_unchanged({mapping_of(file)})
    assert mapped[5000:5005] == b"apart"


def test_a_shared_mapping_is_no_library(file: Path) -> None:
    """Buffers of cameras are such, and not every driver brings their pages back."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), SIZE, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == CONTENT
        assert all(mapping.file != str(file) for mapping in read_only_mappings())


def test_a_loaded_model_leaves_the_memory(file: Path) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), SIZE, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == CONTENT
        release_file(file)
        assert resident_kb(file) == 0
        assert mapped[:] == CONTENT


def test_libraries_work_on_after_their_pages_were_released() -> None:
    """In a process of its own, as an error would end it: most of the libraries' pages leave, and all still works."""
    script = """
import av, numpy as np, sqlite3
from edge_classifierd.memory_maps import read_only_mappings, release_unchanged
def resident():
    return {line.split()[0]: int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("Rss")}
def work():
    frame = av.VideoFrame.from_ndarray(np.arange(3 * 64 * 64, dtype=np.uint8).reshape(64, 64, 3), format="rgb24")
    small = frame.reformat(32, 32, "yuv420p").to_ndarray()
    base = sqlite3.connect(":memory:")
    return small.sum(), np.linalg.svd(np.eye(9))[1].sum(), base.execute("select sqlite_version()").fetchone()
first, before = work(), resident()
known = read_only_mappings()
for _ in range(3):
    release_unchanged(known)
    after = resident()
    assert work() == first
assert after["RssFile:"] < before["RssFile:"] / 2, (before, after)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
