"""The Edge TPUs that the kernel lists, their temperature, and the reset of a USB port.

USB ids: `1a6e:089a` until the firmware is loaded by the first use, `18d1:9302` afterwards (the stick re-enumerates at
the same port). PCIe: the gasket driver's class `apex`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_classifierd.errors import InferenceError, UsageError
from edge_classifierd.inference.base import AcceleratorTemperature

log = logging.getLogger(__name__)

ROOT: Final = "EDGE_CLASSIFIERD_ROOT"
"""Environment variable that names a folder to read instead of `/` (its `sys`, `dev` and `run`); for tests."""

FRESH: Final = "1a6e/"
"""Start of the `incarnation` of a stick whose firmware is not loaded."""

_USB_IDS: Final = {("1a6e", "089a"), ("18d1", "9302")}
_USBDEVFS_RESET: Final = 0x5514  # _IO('U', 20) of linux/usbdevice_fs.h
# The driver's default trip points in millidegrees, and the clock below the first and from each on.
_TRIP_POINTS: Final = (84_800, 89_800, 94_800)
_CLOCKS_MHZ: Final = (500.0, 250.0, 125.0, 62.5)
_COOLED_BY_C: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tpu:
    """One Edge TPU; `str()` is its name: `usb:0`, `pci:1`, counted in the order of the ports."""

    kind: Literal["usb", "pci"]
    index: int
    port: str
    """Where it is plugged in: `1-1.2` (bus and ports) or `apex_0`; empty when the kernel does not list it."""
    incarnation: str = ""
    """Changes whenever the device is enumerated again."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}"

    @property
    def listed(self) -> bool:
        """Whether the kernel listed it."""
        return bool(self.port)

    @property
    def path(self) -> str:
        """Its name in libedgetpu's list; empty when the kernel does not list it."""
        if not self.port:
            return ""
        return f"/sys/bus/usb/devices/{self.port}" if self.kind == "usb" else f"/dev/{self.port}"


@dataclass(frozen=True, slots=True)
class Selector:
    """The Edge TPUs that a configuration allows: `edgetpu` (any), `usb`, `pci`, `usb:N`, `pci:N`."""

    kind: Literal["usb", "pci"] | None
    index: int | None

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse the value of `model.device`. Raises UsageError."""
        if text == "edgetpu":
            return cls(None, None)
        match = re.fullmatch(r"(usb|pci)(?::(\d{1,2}))?", text)
        if match is None:
            raise UsageError(
                f"device `{text}`: not supported; allowed are auto and cpu, and for models compiled for the Edge TPU "
                "edgetpu, usb, usb:0, pci and pci:0"
            )
        return cls("usb" if match[1] == "usb" else "pci", None if match[2] is None else int(match[2]))

    def __str__(self) -> str:
        kind = self.kind or "edgetpu"
        return kind if self.index is None else f"{kind}:{self.index}"

    def matches(self, tpu: Tpu) -> bool:
        """Return whether `tpu` is allowed."""
        return self.kind in {None, tpu.kind} and self.index in {None, tpu.index}

    def unlisted(self) -> Tpu:
        """Return the Edge TPU to try where the kernel lists none: sysfs may be hidden from this process."""
        return Tpu(self.kind or "usb", self.index or 0, "")


def root_directory() -> Path:
    """Return `/`, or the directory that replaces it in a test."""
    return Path(os.environ.get(ROOT) or "/")


def list_tpus(root: Path | None = None) -> tuple[Tpu, ...]:
    """Return all Edge TPUs: PCIe first (they are faster), each kind in the order of its ports; takes under 1 ms."""
    base = root or root_directory()
    sticks = [
        (_natural(device.name), device.name, f"{_text(device / 'idVendor')}/{_text(device / 'devnum')}")
        for device in _entries(base / "sys/bus/usb/devices")
        if ":" not in device.name and (_text(device / "idVendor"), _text(device / "idProduct")) in _USB_IDS
    ]
    cards = [device.name for device in _entries(base / "sys/class/apex") if device.name.startswith("apex_")]
    return (
        *(Tpu("pci", index, name, "apex") for index, name in enumerate(sorted(cards, key=_natural))),
        *(Tpu("usb", index, name, incarnation) for index, (_, name, incarnation) in enumerate(sorted(sticks))),
    )


def read_temperature(tpu: Tpu, root: Path | None = None) -> AcceleratorTemperature | None:
    """Return temperature and clock; None for USB sticks, which have no readable sensor, and for unknown drivers."""
    if tpu.kind != "pci" or not tpu.port:
        return None
    folder = (root or root_directory()) / "sys/class/apex" / tpu.port
    millidegrees = _integer(folder / "temp")
    if millidegrees is None:
        return None
    slowed = sum(millidegrees >= trip for trip in _trip_points(folder))
    if _integer(folder / "temp_poll_interval") == 0:  # the driver ignores the temperature
        slowed = 0
    return AcceleratorTemperature(millidegrees / 1000.0, _CLOCKS_MHZ[slowed])


class HeatWarning:
    """Whether the temperature of a PCIe Edge TPU lowers its clock, with hysteresis; `check` is for one thread."""

    def __init__(self, tpu: Tpu, root: Path | None = None) -> None:
        self._tpu = tpu
        self._root = root
        self.sentence: str | None = None
        """The warning at the last `check`, None if there was none."""

    def check(self) -> None:
        """Warn from the first trip point on until 5 °C below it. The begin and the end are logged."""
        before, self.sentence = self.sentence, self._read()
        if self.sentence and not before:
            log.warning("%s", self.sentence)
        elif before and not self.sentence:
            log.info("%s: the Edge TPU has cooled down", self._tpu)

    def _read(self) -> str | None:
        temperature = read_temperature(self._tpu, self._root)
        if temperature is None:
            return None
        folder = (self._root or root_directory()) / "sys/class/apex" / self._tpu.port
        limit_c = _trip_points(folder)[0] / 1000.0
        if temperature.temperature_c < (limit_c - _COOLED_BY_C if self.sentence else limit_c):
            return None
        return (
            f"the Edge TPU {self._tpu} is {temperature.temperature_c:.0f} °C hot and its clock is "
            f"{temperature.clock_mhz:g} MHz (it is lowered from {limit_c:.0f} °C on); cool it"
        )


def reset_usb_port(tpu: Tpu, root: Path | None = None) -> None:
    """Reset the stick's USB port, as if it were plugged in again. Raises InferenceError with the remedy."""
    base = root or root_directory()
    folder = base / "sys/bus/usb/devices" / tpu.port
    bus, number = _integer(folder / "busnum"), _integer(folder / "devnum")
    if tpu.kind != "usb" or not tpu.port or bus is None or number is None:
        raise InferenceError(f"{tpu}: its USB port cannot be reset: it is not there")
    node = base / f"dev/bus/usb/{bus:03d}/{number:03d}"
    try:
        descriptor = os.open(node, os.O_WRONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _USBDEVFS_RESET)
        finally:
            os.close(descriptor)
    except PermissionError as error:
        raise InferenceError(
            f"{node}: no permission to reset the USB port of {tpu}; let the group plugdev write it (docs/edge-tpu.md)"
        ) from error
    except OSError as error:
        raise InferenceError(f"{node}: the USB port of {tpu} cannot be reset: {error.strerror}") from error


def _trip_points(folder: Path) -> tuple[int, ...]:
    read = [_integer(folder / f"trip_point{number}_temp") for number in range(3)]
    return tuple(known if known is not None else _TRIP_POINTS[number] for number, known in enumerate(read))


def _natural(name: str) -> tuple[int, ...]:
    """Return a sort key that puts `1-1.10` after `1-1.2`."""
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _integer(path: Path) -> int | None:
    text = _text(path)
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else None
