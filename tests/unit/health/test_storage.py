"""A state that does not outlive a reboot is told from one that does."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_classifierd.health.storage import volatile_reason

DISK = "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n"
TMPFS = "40 22 0:30 / /var/lib/edge-classifierd rw,relatime shared:9 - tmpfs tmpfs rw,size=64M\n"
OVERLAY = (
    "22 1 0:24 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/media/root-ro,upperdir={upper},workdir=/w\n"
    "30 22 0:25 / /media/root-rw rw shared:2 - tmpfs tmpfs rw\n"
)
STATE = Path("/var/lib/edge-classifierd/outbox.sqlite3")


def reason(tmp_path: Path, mounts: str, path: Path = STATE) -> str | None:
    (tmp_path / "mountinfo").write_text(mounts)
    return volatile_reason(path, tmp_path / "mountinfo")


def test_a_disk_is_not_volatile(tmp_path: Path) -> None:
    assert reason(tmp_path, DISK) is None


def test_a_tmpfs_is_reported_with_its_mount_point(tmp_path: Path) -> None:
    found = reason(tmp_path, DISK + TMPFS)
    assert found == (
        "/var/lib/edge-classifierd/outbox.sqlite3 is kept in memory (tmpfs on /var/lib/edge-classifierd): waiting "
        "events survive a crash, but not a power loss"
    )


@pytest.mark.parametrize("path", ["/var/lib/edge-classifierd-other/outbox.sqlite3", "/var/lib/outbox.sqlite3"])
def test_a_neighbour_of_a_tmpfs_is_on_the_disk(tmp_path: Path, path: str) -> None:
    assert reason(tmp_path, DISK + TMPFS, Path(path)) is None


def test_what_lies_over_a_tmpfs_counts(tmp_path: Path) -> None:
    over = "41 40 179:3 / /var/lib/edge-classifierd rw - ext4 /dev/mmcblk0p3 rw\n"
    assert reason(tmp_path, DISK + TMPFS + over) is None


def test_an_overlay_counts_by_where_its_changes_go(tmp_path: Path) -> None:
    assert "overlay on /" in str(reason(tmp_path, OVERLAY.format(upper="/media/root-rw/overlay")))
    # A container's: the folder is not visible from inside, so nothing is known.
    assert reason(tmp_path, OVERLAY.format(upper="/var/lib/docker/overlay2/1/diff")) is None


def test_names_with_blanks_are_understood(tmp_path: Path) -> None:
    mounts = DISK + "50 22 0:31 / /mnt/a\\040b rw - tmpfs tmpfs rw\n"
    assert reason(tmp_path, mounts, Path("/mnt/a b/outbox.sqlite3")) is not None


@pytest.mark.parametrize("mounts", ["", "nonsense\n", "1 2 3\n - \n"])
def test_what_the_kernel_does_not_tell_is_not_volatile(tmp_path: Path, mounts: str) -> None:
    assert reason(tmp_path, mounts) is None


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert volatile_reason(STATE, tmp_path / "absent") is None


def test_this_machines_shared_memory_is_volatile() -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm here")
    assert volatile_reason(Path("/dev/shm/outbox.sqlite3")) is not None
