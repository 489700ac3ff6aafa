"""Reads the board's temperature, throttling, memory, load and free disk space."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_classifierd.clock import Clock

# Thermal zones of the CPU: Raspberry Pi (older kernels: cpu_thermal, bcm2835_thermal), other ARM boards, PCs.
_PROCESSOR_ZONES = ("cpu-thermal", "cpu_thermal", "bcm2835_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp")
_VCGENCMD = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")
_VCGENCMD_EVERY_S = 30.0
_VCGENCMD_AGAIN_S = 600.0  # after a failure, such as a missing permission
_VCGENCMD_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ThrottleFlags:
    """Throttling flags of the Raspberry Pi firmware; None where the board does not report one."""

    under_voltage: bool | None
    frequency_capped: bool | None
    throttled: bool | None
    soft_temperature_limit: bool | None


_UNKNOWN = ThrottleFlags(None, None, None, None)


@dataclass(frozen=True, slots=True)
class Throttling:
    """The flags at this moment and since boot."""

    now: ThrottleFlags
    since_boot: ThrottleFlags

    @classmethod
    def from_bits(cls, bits: int) -> Throttling:
        """Return the flags of the firmware's bits: 0 to 3 now, 16 to 19 since boot (see `get_throttled`)."""
        return cls(now=_flags(bits), since_boot=_flags(bits >> 16))


@dataclass(frozen=True, slots=True)
class BoardState:
    """One reading. A value is None where the machine does not report it."""

    model: str | None
    """`Raspberry Pi 4 Model B Rev 1.4`."""
    temperature_c: float | None
    throttling: Throttling | None
    rss_mb: float | None
    """Resident memory of this process, in MB of 10⁶ bytes, as all sizes here."""
    available_mb: float | None
    """Memory available to programs without swapping."""
    load: float | None
    """Mean number of runnable processes over the last minute."""
    disk_free_mb: float | None
    """Disk space available to this process for the state directory."""


class Board:
    """Reads the board. Used by one thread; raises nothing and logs nothing: a value that cannot be read is None.

    A reading takes less than a millisecond. Where only `vcgencmd` reports throttling (kernels since 6.12), it takes
    up to 2 s at most every 30 s. `root` replaces / in tests; `state` is a path on the disk to measure.
    """

    def __init__(self, clock: Clock, *, root: Path = Path("/"), state: Path | None = None) -> None:
        self._clock = clock
        self._root = root
        self._state = state
        self._model = _text(root / "proc/device-tree/model") or None
        self._vcgencmd_due_s: float | None = None
        self._vcgencmd_bits: int | None = None

    def read(self) -> BoardState:
        """Return a reading."""
        return BoardState(
            model=self._model,
            temperature_c=self._temperature_c(),
            throttling=self._throttling(),
            rss_mb=self._rss_mb(),
            available_mb=self._available_mb(),
            load=_number((_text(self._root / "proc/loadavg") or "").partition(" ")[0]),
            disk_free_mb=self._disk_free_mb(),
        )

    def _temperature_c(self) -> float | None:
        zones = {_text(path / "type"): path for path in _matching(self._root / "sys/class/thermal", "thermal_zone*")}
        for kind in _PROCESSOR_ZONES:
            if kind in zones:
                millidegrees = _number(_text(zones[kind] / "temp"))
                return None if millidegrees is None else millidegrees / 1000
        return None

    def _throttling(self) -> Throttling | None:
        word = _text(self._root / "sys/devices/platform/soc/soc:firmware/get_throttled")
        bits = _hexadecimal(word) if word is not None else self._vcgencmd_cached()
        return Throttling.from_bits(bits) if bits is not None else self._voltage_alarm()

    def _vcgencmd_cached(self) -> int | None:
        now_s = self._clock.monotonic()
        if self._vcgencmd_due_s is None or now_s >= self._vcgencmd_due_s:
            command = next((self._root / path for path in _VCGENCMD if (self._root / path).exists()), None)
            self._vcgencmd_bits = None if command is None else _vcgencmd_bits(command)
            self._vcgencmd_due_s = now_s + (_VCGENCMD_AGAIN_S if self._vcgencmd_bits is None else _VCGENCMD_EVERY_S)
        return self._vcgencmd_bits

    def _voltage_alarm(self) -> Throttling | None:
        """Return the kernel driver's alarm (raspberrypi-hwmon): under-voltage in the last 2 s, nothing else."""
        for path in _matching(self._root / "sys/class/hwmon", "hwmon*"):
            if _text(path / "name") == "rpi_volt":
                alarm = _text(path / "in0_lcrit_alarm")
                if alarm in {"0", "1"}:
                    now = ThrottleFlags(alarm == "1", None, None, None)
                    return Throttling(now=now, since_boot=_UNKNOWN)
        return None

    def _rss_mb(self) -> float | None:
        fields = (_text(self._root / "proc/self/statm") or "").split()
        pages = _number(fields[1]) if len(fields) > 1 else None
        return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _available_mb(self) -> float | None:
        for line in (_text(self._root / "proc/meminfo") or "").splitlines():
            if line.startswith("MemAvailable:"):
                kibibytes = _number(line.removeprefix("MemAvailable:").removesuffix("kB"))
                return None if kibibytes is None else kibibytes * 1024 / 1e6
        return None

    def _disk_free_mb(self) -> float | None:
        if self._state is None:
            return None
        try:
            disk = os.statvfs(self._state)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize / 1e6


def _flags(bits: int) -> ThrottleFlags:
    return ThrottleFlags(
        under_voltage=bool(bits & 1),
        frequency_capped=bool(bits & 2),
        throttled=bool(bits & 4),
        soft_temperature_limit=bool(bits & 8),
    )


def _vcgencmd_bits(command: Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed path of the operating system, no input
            [command, "get_throttled"], capture_output=True, timeout=_VCGENCMD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name, _, word = answer.stdout.decode("ascii", "replace").strip().partition("=")
    return _hexadecimal(word) if name == "throttled" else None


def _matching(folder: Path, pattern: str) -> Iterable[Path]:
    """Return the matching entries, sorted; none when the folder does not exist."""
    return sorted(folder.glob(pattern)) if folder.is_dir() else ()


def _text(path: Path) -> str | None:
    """Return the text of a small file without trailing white space and NUL; None when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = nan if text is None else float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)  # with or without `0x`
    except ValueError:
        return None
