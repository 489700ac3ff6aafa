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
from edge_classifierd.events.schema import EventDraft, EventType, ModelIdentity, decode

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


def fill(outbox: Outbox, count: int, *, durable: bool = True) -> list[int]:
    """Append events; return their positions, which are their numbers as long as the disk takes them."""
    draft = EventDraft(
        type=EventType.DETECTED, device="porch", pipeline="driveway", watch="dog", label="dog", confidence=0.8, top=(),
        time=datetime.now(UTC), clock_synchronised=True, inference_ms=5.0,
        model=ModelIdentity("efficientnet_lite0_int8", "0" * 64, "ai-edge-litert 2.3.0", "cpu"),
    )  # fmt: skip
    positions = []
    for _ in range(count):
        (event,) = outbox.append([draft])
        assert (event.durable, event.seq is not None) == (durable, durable)
        positions.append(outbox.last_position)
    return positions


def waiting(outbox: Outbox) -> list[int]:
    return [row.position for row in outbox.pending(0, 100_000)]


def numbers(outbox: Outbox) -> list[int | None]:
    return [decode(row.payload).seq for row in outbox.pending(0, 100_000)]


def trouble(outbox: Outbox) -> str:
    return outbox.trouble or ""


def test_a_full_disk_is_survived_and_left_again(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10)
    ballast = fill_up(small_disk)
    given += fill(outbox, 3000, durable=False)
    assert "full" in trouble(outbox)
    assert waiting(outbox) == given
    outbox.acknowledge(given[:1500])
    assert waiting(outbox) == given[1500:], "what the broker has does not come back, whatever the disk says"
    clock.ahead_s += 6
    outbox.maintain()
    assert "full" in trouble(outbox)
    ballast.unlink()
    clock.ahead_s += 6
    outbox.maintain()
    assert trouble(outbox) == ""
    given += fill(outbox, 1)
    assert waiting(outbox) == given[1500:]
    outbox.close()
    outbox = open_outbox(small_disk, clock)
    assert waiting(outbox) == given[1500:]
    fill(outbox, 1)
    assert [one for one in numbers(outbox) if one] == [11, 12]
    outbox.close()


def test_after_a_full_disk_the_numbers_go_on_without_a_gap(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 10)
    ballast = fill_up(small_disk)
    given = fill(outbox, 1500, durable=False)
    outbox.acknowledge(given)
    assert "full" in trouble(outbox)
    outbox.close()
    ballast.unlink()
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 1)
    assert numbers(outbox) == list(range(1, 12))
    assert "lost" not in caplog.text
    outbox.close()


def test_what_waits_is_delivered_first_when_the_disk_is_full_at_the_start(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 22)
    outbox.close()
    ballast = fill_up(small_disk)
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 5, durable=False)
    first = list(range(1, 23))
    assert numbers(outbox) == [*first, *[None] * 5]
    outbox.acknowledge(first[:20])
    assert numbers(outbox) == [21, 22, *[None] * 5]
    ballast.unlink()
    clock.ahead_s += 6
    fill(outbox, 1)
    assert numbers(outbox) == [21, 22, *[None] * 5, 23]
    outbox.close()


@pytest.mark.parametrize("killed", [False, True])
def test_restarts_on_a_read_only_disk_give_no_number_and_keep_the_state(small_disk: Path, killed: bool) -> None:
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path; from test_outbox_disk import *\n"
        "outbox = open_outbox(Path(sys.argv[3]), HurriedClock())\n"
        "fill(outbox, 5); outbox.append((), {'a': 'b'})\n"
        f"os.kill(os.getpid(), 9) if {killed} else outbox.close()\n"
    )
    here = Path(__file__).parent
    arguments = [sys.executable, "-c", script, str(here), str(here.parents[1]), str(small_disk)]
    assert subprocess.run(arguments, check=False).returncode == (-9 if killed else 0)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    clock = HurriedClock()
    for _ in range(3):
        outbox = open_outbox(small_disk, clock)
        assert (outbox.state("a"), outbox.intact) == ({"": "b"}, True)
        fill(outbox, 3, durable=False)
        assert numbers(outbox) == [1, 2, 3, 4, 5, None, None, None]
        outbox.close()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    outbox = open_outbox(small_disk, clock)
    fill(outbox, 1)
    assert numbers(outbox) == [1, 2, 3, 4, 5, 6]
    outbox.close()


def test_a_disk_full_from_the_start_holds_up_nothing(small_disk: Path) -> None:
    fill_up(small_disk)
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10, durable=False)
    assert trouble(outbox)
    (small_disk / "ballast").unlink()
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    assert waiting(outbox) == given
    outbox.close()


def test_a_read_only_disk_is_survived_and_left_again(small_disk: Path) -> None:
    clock = HurriedClock()
    outbox = open_outbox(small_disk, clock)
    given = fill(outbox, 10)
    outbox.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    outbox = open_outbox(small_disk, clock)
    in_memory = fill(outbox, 10, durable=False)
    assert trouble(outbox)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    clock.ahead_s += 6
    in_memory += fill(outbox, 1)
    assert trouble(outbox) == ""
    assert waiting(outbox) == given + in_memory
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
        assert waiting(outbox) == given
    finally:
        subprocess.run(["chattr", "-i", str(state)], check=True)
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    outbox.close()
    outbox = open_outbox(state, clock)
    assert waiting(outbox) == given
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
    waiting(outbox)
    assert "full" in trouble(outbox)
    ballast.unlink()
    clock.ahead_s += 6
    given += fill(outbox, 1)
    assert trouble(outbox) == ""
    found = waiting(outbox)
    assert 0 < len(found) < 4000
    assert outbox.lost == {"corrupt": len(given) - len(found)}
    outbox.close()
