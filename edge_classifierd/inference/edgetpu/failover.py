"""A classifier that outlives its Edge TPU: the CPU twin answers from the frame of the fault until the TPU is back.

States: *on the TPU*; *degraded* (a background thread kills the child, waits, tries again); back on the TPU when a
fresh child's first answers agree with the twin's on the newest frame.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_classifierd.errors import EdgeClassifierError, InferenceError, ModelError
from edge_classifierd.inference.edgetpu.cpu_fallback import agrees
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuError, open_tpu
from edge_classifierd.inference.edgetpu.device_choice import LOOK_EVERY_S, AbsentError, DeviceChoice
from edge_classifierd.inference.edgetpu.device_lock import BusyError
from edge_classifierd.inference.edgetpu.devices import HeatWarning, read_warmth, reset_usb_port
from edge_classifierd.inference.edgetpu.replug_watch import ReplugWatch
from edge_classifierd.inference.edgetpu.subprocess_classifier import ChildFailedError
from edge_classifierd.inference.retries import RetryBudget

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_classifierd.clock import Clock
    from edge_classifierd.inference.base import Inference
    from edge_classifierd.inference.edgetpu.cpu_fallback import CpuFallback
    from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
    from edge_classifierd.inference.edgetpu.devices import Selector, Tpu, Warmth
    from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier
    from edge_classifierd.model.bundle import ModelBundle

_log = logging.getLogger(__name__)

_WATCH_EVERY_S: Final = 1.0  # the child's life and heat while it is in use
_QUICK_S: Final = 3.0
_LASTING_S: Final = 60.0  # nobody installs a library every few seconds
_PROOFS: Final = 10
_JOIN_S: Final = 5.0
_ALWAYS_DFU: Final = "Usb.AlwaysDfu"  # has the library load the firmware anew each time, which looks like a re-plug


class FailoverClassifier:
    """Implements Classifier and Accelerated on one Edge TPU; `classify` by one thread at a time, the rest by any.

    The constructor starts on the TPU; when that fails it starts degraded if there is a `twin` (closed with it), else
    it raises EdgeTpuError or BusyError. ModelError when the model or its twin is wrong. `optional` (`device: auto`):
    to have no TPU at the start is no degradation; one that appears is used.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        selector: Selector,
        settings: EdgeTpuSettings,
        clock: Clock,
        *,
        twin: CpuFallback | None,
        optional: bool = False,
        meanwhile: str = "classifying on the CPU meanwhile",
        root: Path | None = None,
    ) -> None:
        self._bundle, self._settings, self._twin = bundle, settings, twin
        self._root, self._optional, self._meanwhile = root, optional, meanwhile
        self._budget = RetryBudget(clock)
        self._switch = threading.Lock()  # around _child, _reason, _fault
        self._using = threading.Lock()  # around every use of a child
        self._wake, self._stopping, self._seen = threading.Event(), threading.Event(), threading.Event()
        self._child: SubprocessClassifier | None = None
        self._loading: SubprocessClassifier | None = None
        self._broken: SubprocessClassifier | None = None
        self._place = DeviceChoice(selector, root, must_be_listed=optional)
        self._heat: HeatWarning | None = None
        self._heat_sentence: str | None = None
        self._reason: str | None = None
        self._pause_s = 0.0
        self._hung = self._replugged = False
        self._tpu_runtime = ""
        zeros = np.zeros(bundle.input.shape, bundle.input.dtype)
        self._proof = None if twin is None else (zeros, twin.classify(zeros).confidences)
        try:
            self._adopt(self._open())
        except (EdgeTpuError, BusyError) as error:
            self._place.release()
            if twin is None:
                raise
            self._pause_s = self._pause_after(error)
            if not (optional and isinstance(error, AbsentError)):
                self._reason = self._sentence(str(error))
                _log.warning("%s: %s", bundle.path.name, self._reason)
        except BaseException:
            self._place.release()
            raise
        self._thread = threading.Thread(target=self._keep, name=f"edgetpu-{bundle.name[:20]}", daemon=True)
        self._thread.start()

    @property
    def runtime(self) -> str:
        """What runs the model now: the TPU's runtime may be another one than the twin's."""
        return self._tpu_runtime if self._child is not None or self._twin is None else self._twin.runtime

    @property
    def accelerator(self) -> str:
        """What computes now: `usb:0`, or `cpu` while the TPU cannot."""
        child = self._child
        return "cpu" if child is None else child.accelerator

    @property
    def on_tpu(self) -> bool:
        """Whether the TPU is in use."""
        return self._child is not None

    @property
    def degradation(self) -> str | None:
        """Why the TPU is not in use, one sentence; None when it is."""
        return self._reason

    @property
    def heat_warning(self) -> str | None:
        """The TPU is slowed down by its temperature, one sentence; None when it is not (or does not tell)."""
        return self._heat_sentence

    @property
    def warmth(self) -> tuple[tuple[str, Warmth], ...]:
        """Temperature and clock, for a PCIe TPU in use."""
        tpu = self._place.tpu
        warmth = None if tpu is None else read_warmth(tpu, self._root)
        return () if tpu is None or warmth is None else ((str(tpu), warmth),)

    def classify(self, tensor: NDArray[np.uint8] | NDArray[np.int8] | NDArray[np.float32]) -> Inference:
        """Classify on the TPU; on the twin from its failure on. Raises InferenceError when there is no twin."""
        child = self._child
        if child is not None:
            with self._using:
                try:
                    return child.classify(tensor)
                except ChildFailedError as error:
                    self._lose(child, str(error), hung=error.kind == "hung")
        if self._twin is None:
            raise InferenceError(self._reason or f"{self._bundle.path.name}: its Edge TPU is not there")
        inference = self._twin.classify(tensor)
        self._proof = (tensor.copy(), inference.confidences)
        self._seen.set()
        return inference

    def close(self) -> None:
        """End the thread and the child, give the device free; safe to call twice."""
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
            self._place.release()
        if self._twin is not None:
            self._twin.close()

    # The background thread

    def _keep(self) -> None:
        while not self._stopping.is_set():
            child = self._child
            if child is None:
                self._revive()
            else:
                self._wake.wait(_WATCH_EVERY_S)
                self._wake.clear()
                if not child.alive and child is self._child:
                    self._lose(child, f"{self._bundle.path.name} on {child.accelerator}: its process has ended")
                if self._heat is not None:
                    self._notice_heat(self._heat)

    def _lose(self, child: SubprocessClassifier, why: str, *, hung: bool = False) -> None:
        """Take a failed child out of use; the thread does the rest."""
        with self._switch:
            if self._child is not child:
                return
            self._child = None
            self._broken = child
            self._hung = hung
            self._reason = self._sentence(why)
            self._seen.clear()
        child.kill()
        _log.warning("%s", self._reason)
        self._wake.set()

    def _revive(self) -> None:
        """One try to get the TPU back: bury the old child, wait for the turn, start a new one and prove it."""
        broken = self._broken
        if broken is not None:
            with self._using:
                broken.close()
                self._broken = None
            self._pause_s = self._budget.failed()
            self._place.failed()
            if self._hung and self._settings.reset_on_hang and self._place.tpu is not None:
                self._reset(self._place.tpu)
        if not self._place.await_turn(self._pause_s, self._stopping, patient=self._budget.exhausted):
            return
        try:
            child = self._open()
            self._prove(child)
        except ModelError as error:  # the file was replaced by one that does not fit
            self._pause_s = _LASTING_S
            self._tell(str(error))
        except EdgeClassifierError as error:
            self._pause_s = self._pause_after(error)
            if self._replugged and not self._budget.exhausted:
                self._pause_s = 0.0
            if self._reason is not None or not (self._optional and isinstance(error, AbsentError)):
                self._tell(str(error))
        else:
            self._adopt(child)

    def _pause_after(self, error: EdgeClassifierError) -> float:
        if isinstance(error, BusyError | AbsentError):
            return _QUICK_S  # finding that out costs nothing
        if isinstance(error, EdgeTpuError) and error.lasting:
            return _LASTING_S
        return self._budget.failed()

    def _prove(self, child: SubprocessClassifier) -> None:
        """Raises EdgeTpuError unless the child's top label is the twin's, on one of the newest frames."""
        for _ in range(_PROOFS if self._proof is not None else 0):
            assert self._proof is not None
            tensor, expected = self._proof
            self._seen.clear()
            try:
                if agrees(child.classify(tensor).confidences, expected):
                    return
            except ChildFailedError as error:
                child.close()
                raise EdgeTpuError(str(error), hung=error.kind == "hung") from error
            if not self._seen.wait(LOOK_EVERY_S) or self._stopping.is_set():
                break
        if self._proof is not None:
            child.close()
            raise EdgeTpuError(f"{child.accelerator}: its answers differ from the CPU's; plug the stick in again")

    def _adopt(self, child: SubprocessClassifier) -> None:
        self._place.works()
        tpu = self._place.tpu
        self._heat = HeatWarning(tpu, self._root) if tpu is not None and tpu.kind == "pci" else None
        with self._switch:
            was, self._reason = self._reason, None
            self._tpu_runtime = child.runtime
            self._child = child
        if was is not None:
            _log.info("%s: classifying on the Edge TPU %s again", self._bundle.path.name, child.accelerator)

    def _open(self) -> SubprocessClassifier:
        lease = self._place.take()
        watch = ReplugWatch(lease.tpu, self._root, self._end_loading)
        try:
            with watch if _ALWAYS_DFU not in self._settings.options else contextlib.nullcontext():
                return open_tpu(self._bundle, lease, self._settings, spawned=self._note_loading)
        except EdgeClassifierError:
            self._place.failed()
            raise
        finally:
            self._loading = None
            self._replugged = watch.noticed

    def _end_loading(self) -> None:
        loading = self._loading
        if loading is not None:
            loading.kill()

    def _note_loading(self, child: SubprocessClassifier) -> None:
        self._loading = child
        if self._stopping.is_set():
            child.kill()

    def _reset(self, tpu: Tpu) -> None:
        try:
            reset_usb_port(tpu, self._root)
            _log.info("%s: its USB port was reset after a hang", tpu)
        except InferenceError as error:
            _log.warning("%s", error)

    def _notice_heat(self, heat: HeatWarning) -> None:
        before, self._heat_sentence = self._heat_sentence, heat.sentence()
        if self._heat_sentence and not before:
            _log.warning("%s", self._heat_sentence)
        elif before and not self._heat_sentence:
            _log.info("%s: the Edge TPU has cooled down", self._bundle.path.name)

    def _tell(self, why: str) -> None:
        """Change the reason; what changes in it while the TPU stays away is said at DEBUG only."""
        with self._switch:
            self._reason = self._sentence(why)
        _log.debug("%s", self._reason)

    def _sentence(self, why: str) -> str:
        if self._twin is None:
            return f"{why}; nothing is classified until it works again: set `model.cpu_model` to go on meanwhile"
        rarely = "; it failed often, so it is tried only every few minutes" if self._budget.exhausted else ""
        return f"{why}; {self._meanwhile}{rarely}"
