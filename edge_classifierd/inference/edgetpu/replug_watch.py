"""Notices that a stick was plugged in again while a process loads the model on it, and ends that process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from edge_classifierd.inference.edgetpu.devices import FRESH, list_tpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_classifierd.inference.edgetpu.devices import Tpu

_CHECK_EVERY_S: Final = 0.5


class ReplugWatch:
    """While entered, calls `end` once in its own thread when `tpu` is enumerated again without firmware.

    Loading the firmware also makes the kernel enumerate the stick again, but then the firmware is there. PCIe cards and
    devices that the kernel does not list are not watched.
    """

    def __init__(self, tpu: Tpu, root: Path | None, end: Callable[[], None]) -> None:
        self._tpu, self._root, self._end = tpu, root, end
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.noticed = False

    def __enter__(self) -> Self:
        if self._tpu.kind == "usb" and self._tpu.listed:
            self._thread = threading.Thread(target=self._watch, name="edgetpu-replug", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_CHECK_EVERY_S):
            now = next((tpu for tpu in list_tpus(self._root) if tpu.port == self._tpu.port), None)
            if now is not None and now.incarnation != self._tpu.incarnation and now.incarnation.startswith(FRESH):
                self.noticed = True
                self._end()
                return
