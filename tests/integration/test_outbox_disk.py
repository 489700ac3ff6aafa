"""The outbox on disks that fill up or turn read-only: events go on from memory and return by themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.clock import SystemClock
from edge_classifierd.events.outbox import Outbox
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator


class HurriedClock(SystemClock):
    """The system's, ahead by what the test skips."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    mount = subprocess.run(command, capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("needs the right to mount a small disk (root has it)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_up(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    return ballast


def open_outbox(disk: Path, clock: SystemClock) -> Outbox:
    return Outbox(disk / "outbox.sqlite3", topic=lambda event: f"b/{event.pipeline}/event", clock=clock)


def fill(outbox: Outbox, count: int) -> list[int]:
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8, top=(),
        time=datetime.now(UTC), clock_synchronised=True, inference_ms=5.0,
        model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
    )  # fmt: skip
    return [event.seq for _ in range(count) for event in outbox.append([draft])]


def seqs(outbox: Outbox) -> list[int]:
    return [row.seq for row in outbox.pending(0, 100_000)]


def trouble(outbox: Outbox) -> str:
    return outbox.trouble or ""


def test_a_full_disk_is_survived_and_left_again(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10)
    ballast = fill_up(small_disk)
    given += fill(outbox, 3000)
    assert "full" in trouble(outbox)
    assert seqs(outbox) == given
    outbox.acknowledge(given[:1500])
    assert seqs(outbox) == given[1500:], "what the broker has does not come back, whatever the disk says"
    clock.ahead_s += 6
    outbox.maintain()
    assert "full" in trouble(outbox)
    ballast.unlink()
    clock.ahead_s += 6
    outbox.maintain()
    assert trouble(outbox) == ""
    given += fill(outbox, 1)
    assert seqs(outbox) == given[1500:]
    outbox.close()
    outbox = open_outbox(small_disk, clock)
    assert seqs(outbox) == given[1500:]
    assert fill(outbox, 1) == [given[-1] + 1]
    outbox.close()


def test_after_a_full_disk_whose_events_were_all_delivered_the_numbers_go_on(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    outbox.acknowledge(fill(outbox, 10))
    ballast = fill_up(small_disk)
    given = fill(outbox, 500)
    outbox.acknowledge(given)
    assert "full" in trouble(outbox)
    outbox.close()
    ballast.unlink()
    outbox = open_outbox(small_disk, clock)
    assert fill(outbox, 1) == [given[-1] + 1]
    assert "lost" not in caplog.text
    outbox.close()


def test_after_a_full_disk_that_kept_events_from_being_saved_no_number_is_given_again(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 10)
    ballast = fill_up(small_disk)
    given = fill(outbox, 1500)
    outbox.close()
    ballast.unlink()
    outbox = open_outbox(small_disk, clock)
    assert fill(outbox, 1)[0] > given[-1]
    assert "the newest may be lost" in caplog.text
    outbox.close()


def test_a_disk_full_from_the_start_holds_up_nothing(small_disk: Path) -> None:
    fill_up(small_disk)
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10)
    assert trouble(outbox)
    (small_disk / "ballast").unlink()
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    assert seqs(outbox) == given
    outbox.close()


def test_a_process_that_dies_on_a_full_disk_gave_no_number_that_is_given_again(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 5)
    outbox.close()
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path; from test_outbox_disk import *\n"
        "disk = Path(sys.argv[3]); outbox = open_outbox(disk, HurriedClock()); fill(outbox, 1)\n"
        "fill_up(disk)\n"
        "print(fill(outbox, 1500)[-1], flush=True); assert outbox.trouble; os.kill(os.getpid(), 9)\n"
    )
    here = Path(__file__).parent
    child = subprocess.run(
        [sys.executable, "-c", script, str(here), str(here.parents[1]), str(small_disk)],
        capture_output=True,
        check=False,
    )
    assert child.returncode == -9, child.stderr.decode()
    (small_disk / "ballast").unlink()
    outbox = open_outbox(small_disk, clock)
    assert fill(outbox, 1)[0] > int(child.stdout)
    outbox.close()


def test_a_read_only_disk_is_survived_and_left_again(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10)
    outbox.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outbox = open_outbox(small_disk, clock)
    in_memory = fill(outbox, 10)
    assert trouble(outbox)
    assert in_memory[0] > given[-1]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    clock.ahead_s += 6
    in_memory += fill(outbox, 1)
    assert trouble(outbox) == ""
    assert seqs(outbox) == given + in_memory
    outbox.close()


def test_a_directory_made_immutable_under_an_open_outbox_loses_nothing(tmp_path: Path) -> None:
    clock = HurriedClock()
    state = tmp_path / "state"
    outbox = open_outbox(state, clock)
    given = fill(outbox, 5)
    made = shutil.which("chattr") and subprocess.run(["chattr", "+i", state], capture_output=True, check=False)
    if not made or made.returncode:
        outbox.close()
        pytest.skip("needs root, chattr and a file system that has it")
    try:
        given += fill(outbox, 1200)
        assert seqs(outbox) == given
    finally:
        subprocess.run(["chattr", "-i", str(state)], check=True)
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    outbox.close()
    outbox = open_outbox(state, clock)
    assert seqs(outbox) == given
    outbox.close()


def test_what_a_full_disk_keeps_from_being_saved_out_of_a_broken_database_is_counted(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 5000)
    outbox.close()
    database = small_disk / "outbox.sqlite3"
    content = bytearray(database.read_bytes())
    place = content.index(b'"seq":4900,')
    content[place : place + 11] = b'"seq":4444,'
    database.write_bytes(content)
    outbox = open_outbox(small_disk, clock)
    ballast = fill_up(small_disk)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 1_500_000)  # room for some
    assert outbox.depth == 5000
    seqs(outbox)
    assert "full" in trouble(outbox)
    ballast.unlink()
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    found = seqs(outbox)
    assert 0 < len(found) < 4000
    assert outbox.lost == {"corrupt": len(given) - len(found)}
    outbox.close()
