"""Chooses the Edge TPU of a classifier: one that is plugged in and free; waits for it when it is unplugged."""

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

CHECK_EVERY_S: Final = 0.5
_REPLACED_S: Final = 10.0  # a device that is away this long was unplugged by a person, which ends a long pause too


class AbsentError(EdgeTpuError):
    """No Edge TPU that matches is plugged in."""


class DeviceChoice:
    """The Edge TPU of one classifier; for one thread at a time, except `tpu`.

    With `must_be_listed` an Edge TPU that the kernel does not list is not tried.
    """

    def __init__(self, selector: Selector, root: Path | None, *, must_be_listed: bool) -> None:
        self._selector = selector
        self._root = root
        self._must_be_listed = must_be_listed
        self._lock: DeviceLock | None = None
        self._failed = False

    @property
    def tpu(self) -> Tpu | None:
        """The Edge TPU that is locked, working or not."""
        lock = self._lock
        return None if lock is None else lock.tpu

    def take(self) -> DeviceLock:
        """Lock an Edge TPU that is plugged in and free.

        The one at the port used last comes first, even when its number has changed; after `failed` it comes last, where
        the configuration allows another one. Raises AbsentError, BusyError or MissingError.
        """
        candidates = self._listed()
        self._must_be_listed = self._must_be_listed or bool(candidates)
        if not candidates:
            if self._must_be_listed:
                raise AbsentError(f"no Edge TPU is plugged in (device {self._selector})")
            candidates = [self._selector.unlisted()]  # sysfs may be hidden from this process
        busy: BusyError | None = None
        for tpu in candidates:
            held = self._lock
            if held is not None and held.tpu.port == tpu.port:
                held.tpu = tpu
                return held
            try:
                lock = claim(tpu, self._root)
            except BusyError as error:
                busy = busy or error
            else:
                self.release()
                self._lock = lock
                return lock
        assert busy is not None
        raise busy

    def failed(self) -> None:
        """Prefer another Edge TPU next time: this one does not work."""
        self._failed = self._selector.index is None

    def works(self) -> None:
        """Prefer this Edge TPU next time: it works."""
        self._failed = False

    def wait(self, pause_s: float, stopping: threading.Event, *, patient: bool) -> bool:
        """Wait `pause_s`, or until the device is plugged in again; return False when `stopping` was set.

        `patient`: the device must have been away for 10 s; a failing stick that resets itself does not end the pause.
        """
        start_s = time.monotonic()
        before = self._incarnations()
        away_since_s: float | None = None
        while True:
            left_s = pause_s - (time.monotonic() - start_s)
            if stopping.wait(max(0.01, min(CHECK_EVERY_S, left_s))):
                return False
            now_s, now = time.monotonic(), self._incarnations()
            if now_s - start_s >= pause_s:
                return True
            if not now:
                away_since_s = away_since_s or now_s
            elif away_since_s is not None or now - before:
                away_s = 0.0 if away_since_s is None else now_s - away_since_s
                if not patient or away_s >= _REPLACED_S:
                    return True
                away_since_s, before = None, now

    def release(self) -> None:
        """Unlock the Edge TPU; may be called twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _incarnations(self) -> set[tuple[str, str]]:
        return {(tpu.port, tpu.incarnation) for tpu in self._listed()}

    def _listed(self) -> list[Tpu]:
        port = "" if self._lock is None else self._lock.tpu.port
        listed = [tpu for tpu in list_tpus(self._root) if self._selector.matches(tpu) or (port and tpu.port == port)]
        return sorted(listed, key=lambda tpu: (tpu.port == port) == self._failed)
