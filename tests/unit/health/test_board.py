from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_classifierd.clock import SystemClock
from edge_classifierd.health.board import Board, BoardState, ThrottleFlags, Throttling

if TYPE_CHECKING:
    from health_clock import HandClock

CALM = ThrottleFlags(under_voltage=False, frequency_capped=False, throttled=False, soft_temperature_limit=False)
UNTOLD = ThrottleFlags(None, None, None, None)
THROTTLED_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def pi(root: Path) -> Path:
    """What a Raspberry Pi shows of itself."""
    write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    write(root, "proc/self/statm", "50000 25000 9000 700 0 30000 0\n")
    write(root, "proc/meminfo", "MemTotal:        3884300 kB\nMemFree: 99 kB\nMemAvailable:    3000000 kB\n")
    write(root, "proc/loadavg", "0.52 0.58 0.59 1/467 12345\n")
    write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write(root, "sys/class/thermal/thermal_zone0/temp", "48686\n")
    write(root, THROTTLED_FILE, "50005\n")
    return root


def vcgencmd(root: Path, script: str) -> Path:
    """A stand-in for the command that appends to `calls` each time it runs."""
    path = write(root, "usr/bin/vcgencmd", f'#!/bin/sh\necho "$@" >> {root}/calls\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def calls(root: Path) -> list[str]:
    path = root / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_a_raspberry_pi_tells_everything(tmp_path: Path, clock: HandClock) -> None:
    state = Board(clock, root=pi(tmp_path), state=tmp_path).read()
    now = ThrottleFlags(under_voltage=True, frequency_capped=False, throttled=True, soft_temperature_limit=False)
    assert state == BoardState(
        model="Raspberry Pi 4 Model B Rev 1.4",
        temperature_c=48.686,
        throttling=Throttling(now=now, since_boot=now),
        rss_mb=25000 * os.sysconf("SC_PAGE_SIZE") / 1e6,
        available_mb=3072.0,
        load=0.52,
        disk_free_mb=state.disk_free_mb,
    )
    assert state.disk_free_mb is not None
    assert state.disk_free_mb > 0


def test_another_machine_says_nothing_and_logs_nothing(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("DEBUG"):
        state = Board(clock, root=tmp_path, state=tmp_path / "missing").read()
    assert state == BoardState(None, None, None, None, None, None, None)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["", "\n", "garbage\n", "\0\xff\n", "nan inf\n", "inf\n"])
def test_garbage_in_any_file_is_not_told(tmp_path: Path, clock: HandClock, content: str) -> None:
    root = pi(tmp_path)
    for path in [path for path in root.rglob("*") if path.is_file() and path.name not in {"type", "model"}]:
        path.write_text(content)
    write(root, "proc/meminfo", "MemAvailable: " + content)
    state = Board(clock, root=root).read()
    assert (state.temperature_c, state.throttling, state.rss_mb, state.available_mb, state.load) == (None,) * 5


def test_a_folder_where_a_file_should_be_is_not_told(tmp_path: Path, clock: HandClock) -> None:
    (tmp_path / THROTTLED_FILE).mkdir(parents=True)
    (tmp_path / "sys/class/thermal/thermal_zone0/type").mkdir(parents=True)
    state = Board(clock, root=tmp_path).read()
    assert state.throttling is None
    assert state.temperature_c is None


def test_this_machine_s_own_memory_is_told() -> None:
    state = Board(SystemClock()).read()
    resident_kb = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    assert state.rss_mb == pytest.approx(resident_kb * 1024 / 1e6, rel=0.05)
    assert state.available_mb is not None
    assert state.load is not None


def test_the_processor_s_zone_is_chosen_among_many(tmp_path: Path, clock: HandClock) -> None:
    for number, (kind, millidegrees) in enumerate([("acpitz", 27800), ("x86_pkg_temp", 61000), ("iwlwifi_1", 40000)]):
        write(tmp_path, f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        write(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")
    assert Board(clock, root=tmp_path).read().temperature_c == 61.0
    write(tmp_path, "sys/class/thermal/thermal_zone1/type", "battery\n")
    assert Board(clock, root=tmp_path).read().temperature_c is None


@given(st.integers(0, 0xFFFFF))
def test_each_bit_has_its_flag(bits: int) -> None:
    throttling = Throttling.from_bits(bits)
    told = [
        throttling.now.under_voltage,
        throttling.now.frequency_capped,
        throttling.now.throttled,
        throttling.now.soft_temperature_limit,
        throttling.since_boot.under_voltage,
        throttling.since_boot.frequency_capped,
        throttling.since_boot.throttled,
        throttling.since_boot.soft_temperature_limit,
    ]
    assert told == [bool(bits & 1 << shift) for shift in (0, 1, 2, 3, 16, 17, 18, 19)]


def test_vcgencmd_is_asked_only_where_the_file_is_missing(tmp_path: Path, clock: HandClock) -> None:
    root = pi(tmp_path)
    vcgencmd(root, "echo throttled=0x80008")
    Board(clock, root=root).read()
    assert calls(root) == []
    (root / THROTTLED_FILE).unlink()
    throttling = Board(clock, root=root).read().throttling
    assert throttling == Throttling.from_bits(0x80008)
    assert calls(root) == ["get_throttled"]


def test_vcgencmd_is_asked_every_30_seconds_at_most(tmp_path: Path, clock: HandClock) -> None:
    vcgencmd(tmp_path, "echo throttled=0x0")
    board = Board(clock, root=tmp_path)
    for _ in range(61):
        throttling = board.read().throttling
        assert throttling == Throttling(now=CALM, since_boot=CALM)
        clock.pass_s(1)
    assert len(calls(tmp_path)) == 3


def test_vcgencmd_that_fails_is_left_alone_for_ten_minutes(
    tmp_path: Path, clock: HandClock, capfd: pytest.CaptureFixture[str]
) -> None:
    vcgencmd(tmp_path, "echo 'Can not open device file: /dev/vcio' >&2; exit 255")
    board = Board(clock, root=tmp_path)
    for _ in range(20):
        assert board.read().throttling is None
        clock.pass_s(30)
    assert len(calls(tmp_path)) == 1
    vcgencmd(tmp_path, "echo throttled=0x1")
    assert board.read().throttling == Throttling.from_bits(1)
    assert capfd.readouterr() == ("", "")


def test_vcgencmd_that_hangs_is_killed(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_classifierd.health.board._VCGENCMD_TIMEOUT_S", 0.2)
    vcgencmd(tmp_path, "exec sleep 60")
    assert Board(clock, root=tmp_path).read().throttling is None
    assert calls(tmp_path) == ["get_throttled"]


def test_vcgencmd_that_cannot_be_executed_is_not_told(tmp_path: Path, clock: HandClock) -> None:
    vcgencmd(tmp_path, "").write_text("not a program")
    assert Board(clock, root=tmp_path).read().throttling is None


@pytest.mark.parametrize(("alarm", "expected"), [("1", True), ("0", False)])
def test_the_kernel_s_voltage_alarm_tells_under_voltage_alone(
    tmp_path: Path, clock: HandClock, alarm: str, expected: bool
) -> None:
    write(tmp_path, "sys/class/hwmon/hwmon0/name", "another_chip\n")
    write(tmp_path, "sys/class/hwmon/hwmon0/in0_lcrit_alarm", f"{1 - int(alarm)}\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    write(tmp_path, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", f"{alarm}\n")
    throttling = Board(clock, root=tmp_path).read().throttling
    assert throttling == Throttling(now=ThrottleFlags(expected, None, None, None), since_boot=UNTOLD)
