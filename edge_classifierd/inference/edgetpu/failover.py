"""A classifier that survives faults of its Edge TPU: the CPU version of the model classifies until it works again.

After a fault a background thread ends the child process, waits, and starts a new one. The Edge TPU is used again once
its answers agree with those of the CPU on the newest frame.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.backoff import RetryBudget
from edge_classifierd.errors import EdgeClassifierError, InferenceError, ModelError
from edge_classifierd.inference.base import Classifier
from edge_classifierd.inference.edgetpu.cpu_fallback import agrees
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuError, open_tpu
from edge_classifierd.inference.edgetpu.device_choice import CHECK_EVERY_S, AbsentError, DeviceChoice
from edge_classifierd.inference.edgetpu.device_lock import BusyError
from edge_classifierd.inference.edgetpu.devices import HeatWarning, read_temperature, reset_usb_port
from edge_classifierd.inference.edgetpu.replug_watch import ReplugWatch
from edge_classifierd.inference.edgetpu.subprocess_classifier import ChildFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.inference.base import AcceleratorTemperature, Inference
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
    from edge_classifierd.inference.edgetpu.devices import Selector, Tpu
    from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
    from edge_classifierd.inference.shared import SharedClassifier
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.preprocess import Tensor

_log = logging.getLogger(__name__)

_SUPERVISE_EVERY_S: Final = 1.0  # checks the child process and the temperature while the Edge TPU is in use
_SHORT_PAUSE_S: Final = 3.0
_LONG_PAUSE_S: Final = 60.0  # nobody installs a library within seconds
_COMPARISONS: Final = 10
_JOIN_S: Final = 5.0
_ALWAYS_DFU: Final = "Usb.AlwaysDfu"  # the library then loads the firmware every time, which looks like a re-plug


class FailoverClassifier(Classifier):
    """One Edge TPU, replaced by the CPU while it fails; `classify` by one thread at a time, the rest by any.

    The constructor uses the Edge TPU; where it fails the classifier starts on `fallback`, and without one it raises
    EdgeTpuError or BusyError. Raises ModelError when the model cannot run on an Edge TPU. `fallback` is closed with it.
    `optional` (`device: auto`): a missing Edge TPU at the start is no degradation; it is used when it is plugged in.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        selector: Selector,
        settings: EdgeTpuSettings,
        clock: Clock,
        *,
        fallback: SharedClassifier | None,
        optional: bool = False,
        meanwhile: str = "classifying on the CPU meanwhile",
        root: Path | None = None,
    ) -> None:
        self._bundle, self._settings, self._fallback = bundle, settings, fallback
        self._root, self._optional, self._meanwhile = root, optional, meanwhile
        self._budget = RetryBudget(clock)
        self._switch = threading.Lock()  # guards _child, _broken, _hung, _reason
        self._using = threading.Lock()  # held during every use of a child
        self._wake, self._stopping, self._compared = threading.Event(), threading.Event(), threading.Event()
        self._child: SubprocessClassifier | None = None
        self._loading: SubprocessClassifier | None = None
        self._broken: SubprocessClassifier | None = None
        self._choice = DeviceChoice(selector, root, must_be_listed=optional)
        self._heat: HeatWarning | None = None
        self._reason: str | None = None
        self._pause_s = 0.0
        self._hung = self._replugged = False
        self._tpu_runtime = ""
        zeros = np.zeros(bundle.input.shape, bundle.input.dtype)
        self._sample = None if fallback is None else (zeros, fallback.classify(zeros).confidences)
        try:
            self._use(self._open())
        except (EdgeTpuError, BusyError) as error:
            self._choice.release()
            if fallback is None:
                raise
            self._pause_s = self._pause_after(error)
            if not (optional and isinstance(error, AbsentError)):
                self._reason = self._sentence(str(error))
                _log.warning("%s: %s", bundle.path.name, self._reason)
        except BaseException:
            self._choice.release()
            raise
        self._thread = threading.Thread(target=self._supervise, name=f"edgetpu-{bundle.name[:20]}", daemon=True)
        self._thread.start()

    @property
    def runtime(self) -> str:
        """The runtime in use now: that of the Edge TPU may differ from that of the CPU."""
        return self._tpu_runtime if self._child is not None or self._fallback is None else self._fallback.runtime

    @property
    def accelerator(self) -> str:
        """What computes now: `usb:0`, or `cpu` while the Edge TPU cannot."""
        child = self._child
        return "cpu" if child is None else child.accelerator

    @property
    def on_tpu(self) -> bool:
        """Whether the Edge TPU is in use."""
        return self._child is not None

    @property
    def degradation(self) -> str | None:
        """Why the Edge TPU is not in use, one sentence; None when it is."""
        return self._reason

    @property
    def heat_warning(self) -> str | None:
        """One sentence while the Edge TPU's temperature lowers its clock, else None."""
        return None if self._heat is None else self._heat.sentence

    @property
    def temperatures(self) -> tuple[tuple[str, AcceleratorTemperature], ...]:
        """Of a PCIe Edge TPU in use."""
        tpu = self._choice.tpu
        temperature = None if tpu is None else read_temperature(tpu, self._root)
        return () if tpu is None or temperature is None else ((str(tpu), temperature),)

    def classify(self, tensor: Tensor) -> Inference:
        """Classify on the Edge TPU, or on the CPU while it fails. Raises InferenceError when there is no fallback."""
        child = self._child
        if child is not None:
            with self._using:
                try:
                    return child.classify(tensor)
                except ChildFailedError as error:
                    self._give_up(child, str(error), hung=error.kind == "hung")
        if self._fallback is None:
            raise InferenceError(self._reason or f"{self._bundle.path.name}: its Edge TPU is not there")
        inference = self._fallback.classify(tensor)
        self._sample = (tensor.copy(), inference.confidences)
        self._compared.set()
        return inference

    def close(self) -> None:
        """End the thread and the child process, release the device; may be called twice."""
        self._stopping.set()
        self._wake.set()
        self._end_loading()
        self._thread.join(_JOIN_S)
        with self._using:
            child, self._child = self._child, None
            for one in (child, self._broken):
                if one is not None:
                    one.close()
            self._broken = None
            self._choice.release()
        if self._fallback is not None:
            self._fallback.close()

    # The background thread

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            child = self._child
            if child is None:
                self._retry()
            else:
                self._wake.wait(_SUPERVISE_EVERY_S)
                self._wake.clear()
                if not child.alive and child is self._child:
                    self._give_up(child, f"{self._bundle.path.name} on {child.accelerator}: its process has ended")
                if self._heat is not None:
                    self._heat.check()

    def _give_up(self, child: SubprocessClassifier, why: str, *, hung: bool = False) -> None:
        """Stop using a failed child process; the background thread replaces it."""
        with self._switch:
            if self._child is not child:
                return
            self._child = None
            self._broken = child
            self._hung = hung
            self._reason = self._sentence(why)
            self._compared.clear()
        child.kill()
        _log.warning("%s", self._reason)
        self._wake.set()

    def _retry(self) -> None:
        """Close the failed child process, wait, then start a new one and compare its answers."""
        broken = self._broken
        if broken is not None:
            with self._using:
                broken.close()
                self._broken = None
            self._pause_s = self._budget.failed()
            self._choice.failed()
            if self._hung and self._settings.reset_on_hang and self._choice.tpu is not None:
                self._reset(self._choice.tpu)
        if not self._choice.wait(self._pause_s, self._stopping, patient=self._budget.exhausted):
            return
        try:
            child = self._open()
            self._compare(child)
        except ModelError as error:  # the file was replaced by another one
            self._pause_s = _LONG_PAUSE_S
            self._change_reason(str(error))
        except EdgeClassifierError as error:
            self._pause_s = self._pause_after(error)
            if self._replugged and not self._budget.exhausted:
                self._pause_s = 0.0
            if self._reason is not None or not (self._optional and isinstance(error, AbsentError)):
                self._change_reason(str(error))
        else:
            self._use(child)

    def _pause_after(self, error: EdgeClassifierError) -> float:
        if isinstance(error, BusyError | AbsentError):
            return _SHORT_PAUSE_S  # this check needs no work of the device
        if isinstance(error, EdgeTpuError) and error.lasting:
            return _LONG_PAUSE_S
        return self._budget.failed()

    def _compare(self, child: SubprocessClassifier) -> None:
        """Raise EdgeTpuError unless the child's top label is the CPU's for one of the newest frames."""
        for _ in range(_COMPARISONS if self._sample is not None else 0):
            assert self._sample is not None
            tensor, expected = self._sample
            self._compared.clear()
            try:
                if agrees(child.classify(tensor).confidences, expected):
                    return
            except ChildFailedError as error:
                child.close()
                raise EdgeTpuError(str(error), hung=error.kind == "hung") from error
            if not self._compared.wait(CHECK_EVERY_S) or self._stopping.is_set():
                break
        if self._sample is not None:
            child.close()
            raise EdgeTpuError(f"{child.accelerator}: its answers differ from the CPU's; plug the stick in again")

    def _use(self, child: SubprocessClassifier) -> None:
        self._choice.works()
        tpu = self._choice.tpu
        self._heat = HeatWarning(tpu, self._root) if tpu is not None and tpu.kind == "pci" else None
        with self._switch:
            previous, self._reason = self._reason, None
            self._tpu_runtime = child.runtime
            self._child = child
        if previous is not None:
            _log.info("%s: classifying on the Edge TPU %s again", self._bundle.path.name, child.accelerator)

    def _open(self) -> SubprocessClassifier:
        lock = self._choice.take()
        watch = ReplugWatch(lock.tpu, self._root, self._end_loading)
        try:
            with watch if _ALWAYS_DFU not in self._settings.options else contextlib.nullcontext():
                return open_tpu(self._bundle, lock, self._settings, spawned=self._started_loading)
        except EdgeClassifierError:
            self._choice.failed()
            raise
        finally:
            self._loading = None
            self._replugged = watch.noticed

    def _end_loading(self) -> None:
        loading = self._loading
        if loading is not None:
            loading.kill()

    def _started_loading(self, child: SubprocessClassifier) -> None:
        self._loading = child
        if self._stopping.is_set():
            child.kill()

    def _reset(self, tpu: Tpu) -> None:
        try:
            reset_usb_port(tpu, self._root)
            _log.info("%s: its USB port was reset after a hang", tpu)
        except InferenceError as error:
            _log.warning("%s", error)

    def _change_reason(self, why: str) -> None:
        """Replace the reason; logged at DEBUG, because the first one was a warning."""
        with self._switch:
            self._reason = self._sentence(why)
        _log.debug("%s", self._reason)

    def _sentence(self, why: str) -> str:
        if self._fallback is None:
            return f"{why}; nothing is classified until it works again: set `model.cpu_model` to go on meanwhile"
        rarely = "; it failed often, so it is tried only every few minutes" if self._budget.exhausted else ""
        return f"{why}; {self._meanwhile}{rarely}"
