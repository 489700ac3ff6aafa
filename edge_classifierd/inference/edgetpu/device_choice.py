"""Which Edge TPU a classifier occupies: choosing one that is plugged in and free, noticing when it comes and goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from edge_classifierd.inference.edgetpu.delegate import EdgeTpuError
from edge_classifierd.inference.edgetpu.device_lock import BusyError, claim
from edge_classifierd.inference.edgetpu.devices import list_tpus

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from edge_classifierd.inference.edgetpu.device_lock import DeviceLock
    from edge_classifierd.inference.edgetpu.devices import Selector, Tpu

LOOK_EVERY_S: Final = 0.5
_BY_HAND_S: Final = 10.0  # so long an absence is a person's doing and ends a long pause too


class AbsentError(EdgeTpuError):
    """No Edge TPU that matches is plugged in."""


class DeviceChoice:
    """The place of one classifier; used by one thread at a time, except `tpu`.

    `must_be_listed`: the library is not asked for a TPU that the kernel does not list.
    """

    def __init__(self, selector: Selector, root: Path | None, *, must_be_listed: bool) -> None:
        self._selector = selector
        self._root = root
        self._must_be_listed = must_be_listed
        self._lease: DeviceLock | None = None
        self._failed = False

    @property
    def tpu(self) -> Tpu | None:
        """The TPU that is occupied, working or not."""
        lease = self._lease
        return None if lease is None else lease.tpu

    def take(self) -> DeviceLock:
        """The lease of a TPU that is plugged in and free; raises AbsentError, BusyError or MissingError.

        The one at the port occupied last comes first, even when its number has shifted; last instead after `failed`,
        where the configuration leaves the choice.
        """
        candidates = self._listed()
        self._must_be_listed = self._must_be_listed or bool(candidates)
        if not candidates:
            if self._must_be_listed:
                raise AbsentError(f"no Edge TPU is plugged in (device {self._selector})")
            candidates = [self._selector.unlisted()]  # sysfs may be hidden from us: the library has the last word
        busy: BusyError | None = None
        for tpu in candidates:
            kept = self._lease
            if kept is not None and kept.tpu.port == tpu.port:
                kept.tpu = tpu
                return kept
            try:
                lease = claim(tpu, self._root)
            except BusyError as error:
                busy = busy or error
            else:
                self.release()
                self._lease = lease
                return lease
        assert busy is not None
        raise busy

    def failed(self) -> None:
        """What was taken does not work: prefer another one next time."""
        self._failed = self._selector.index is None

    def works(self) -> None:
        """What was taken works."""
        self._failed = False

    def await_turn(self, pause_s: float, stopping: threading.Event, *, patient: bool) -> bool:
        """Wait for the pause to end, or the device to be plugged in again; False when `stopping` was set.

        `patient`: only its return after 10 s or more ends the pause, not each time that a failing stick enumerates
        anew.
        """
        start_s = time.monotonic()
        before = self._incarnations()
        away_since_s: float | None = None
        while True:
            left_s = pause_s - (time.monotonic() - start_s)
            if stopping.wait(max(0.01, min(LOOK_EVERY_S, left_s))):
                return False
            now_s, now = time.monotonic(), self._incarnations()
            if now_s - start_s >= pause_s:
                return True
            if not now:
                away_since_s = away_since_s or now_s
            elif away_since_s is not None or now - before:
                away_s = 0.0 if away_since_s is None else now_s - away_since_s
                if not patient or away_s >= _BY_HAND_S:
                    return True
                away_since_s, before = None, now

    def release(self) -> None:
        """Give the TPU free; safe to call twice."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    def _incarnations(self) -> set[tuple[str, str]]:
        return {(tpu.port, tpu.incarnation) for tpu in self._listed()}

    def _listed(self) -> list[Tpu]:
        port = "" if self._lease is None else self._lease.tpu.port
        listed = [tpu for tpu in list_tpus(self._root) if self._selector.matches(tpu) or (port and tpu.port == port)]
        return sorted(listed, key=lambda tpu: (tpu.port == port) == self._failed)
