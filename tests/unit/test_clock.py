"""The clocks of the machine: timestamps, whether the wall clock is synchronised, and points in time over restarts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from edge_classifierd import clock as clock_module
from edge_classifierd.clock import SystemClock, TimePoint, boot_id, process_age_s, timestamp

if TYPE_CHECKING:
    from pathlib import Path

WALL = datetime(2026, 11, 21, 22, 26, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 21, 22, 26, 11, 123999, UTC), "2026-11-21T22:26:11.123Z"),
        (datetime(2026, 11, 22, 0, 26, 11, 0, timezone(timedelta(hours=2))), "2026-11-21T22:26:11.000Z"),
    ],
)
def test_a_timestamp_is_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert timestamp(moment) == text


def test_the_wall_clock_is_aware_and_the_other_one_never_falls() -> None:
    clock = SystemClock()
    assert clock.utc().utcoffset() == timedelta(0)
    assert abs(clock.utc().timestamp() - time.time()) < 5
    assert clock.monotonic() <= clock.monotonic()
    assert abs(clock.monotonic() - time.monotonic()) < 5


@pytest.mark.parametrize(
    ("marker", "kernel", "believed"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_the_clock_is_believed_when_timesyncd_or_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: bool, kernel: bool, believed: bool
) -> None:
    monkeypatch.setattr(clock_module, "_TIMESYNC_MARKER", tmp_path / "synchronized")
    monkeypatch.setattr(clock_module, "_kernel_clock_synchronised", lambda: kernel)
    if marker:
        (tmp_path / "synchronized").touch()
    assert SystemClock().synchronised() is believed


def test_it_is_asked_again_after_ten_seconds_and_not_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now_s, asked = [100.0], list[float]()

    def ask() -> bool:
        asked.append(now_s[0])
        return len(asked) > 1

    monkeypatch.setattr(clock_module, "_TIMESYNC_MARKER", tmp_path / "absent")
    monkeypatch.setattr(clock_module, "_kernel_clock_synchronised", ask)
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    clock = SystemClock()
    answers = []
    for now_s[0] in (100.0, 109.9, 110.0, 115.0):
        answers.append(clock.synchronised())
    assert asked == [100.0, 110.0]
    assert answers == [False, False, True, True]


@pytest.mark.parametrize(("state", "believed"), [(0, True), (1, True), (4, True), (5, False), (-1, False)])
def test_the_kernels_answer_is_read_as_adjtimex_documents_it(
    monkeypatch: pytest.MonkeyPatch, state: int, believed: bool
) -> None:
    class Library:
        @staticmethod
        def adjtimex(_buffer: object) -> int:
            return state

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Library)
    assert clock_module._kernel_clock_synchronised() is believed


def test_where_the_kernel_cannot_be_asked_the_clock_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    assert clock_module._kernel_clock_synchronised() is False


def test_the_age_of_the_process_grows_from_its_start() -> None:
    before = process_age_s()
    assert before > 0
    time.sleep(0.05)
    assert 0.03 <= process_age_s() - before < 5
    assert process_age_s() < 3 * 3600


def test_a_machine_that_does_not_tell_has_processes_of_age_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clock_module, "Path", lambda _: tmp_path / "absent")
    assert process_age_s() == 0.0


@pytest.mark.parametrize(
    ("later", "elapsed_s"),
    [
        (TimePoint(WALL, 160.0, "boot", synchronised=True), 60.0),
        (TimePoint(WALL + timedelta(days=3650), 160.0, "boot", synchronised=False), 60.0),
        (TimePoint(WALL - timedelta(days=3650), 160.0, "boot", synchronised=True), 60.0),
        (TimePoint(WALL + timedelta(seconds=90), 3.0, "other", synchronised=True), 90.0),
        (TimePoint(WALL + timedelta(seconds=90), 3.0, "other", synchronised=False), None),
        (TimePoint(WALL - timedelta(seconds=90), 3.0, "other", synchronised=True), None),
        (TimePoint(WALL, 40.0, "boot", synchronised=True), None),
    ],
)
def test_the_time_between_two_points_is_true_or_unknown(later: TimePoint, elapsed_s: float | None) -> None:
    assert TimePoint(WALL, 100.0, "boot", synchronised=True).seconds_until(later) == elapsed_s


def test_without_a_boot_id_only_a_synchronised_clock_is_trusted() -> None:
    before, later = WALL, WALL + timedelta(seconds=5)
    for synchronised, elapsed_s in ((True, 5.0), (False, None)):
        first = TimePoint(before, 100.0, "", synchronised=synchronised)
        assert first.seconds_until(TimePoint(later, 160.0, "", synchronised=synchronised)) == elapsed_s


def test_the_boot_id_stays_the_same_within_a_boot() -> None:
    assert boot_id() == boot_id()
