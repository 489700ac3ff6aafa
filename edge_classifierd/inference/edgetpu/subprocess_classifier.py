"""A classifier in a child process: a crash or hang of native code becomes an exception here.

The tensors are in unnamed shared memory; a socket carries a small message each way.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from edge_classifierd.errors import InferenceError
from edge_classifierd.inference.base import Classifier, Inference
from edge_classifierd.inference.edgetpu.child_process import LONGEST_MESSAGE, REPLY, REQUEST
from edge_classifierd.inference.edgetpu.child_protocol import Delegate, TensorLayout
from edge_classifierd.inference.edgetpu.spawn import leave_to_reap, reap_leftovers, shared_memory, spawn
from edge_classifierd.inference.runtime import one_line
from edge_classifierd.inference.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.inspection import Inspection
    from edge_classifierd.preprocess import Tensor

__all__ = ["ChildFailedError", "Deadlines", "Delegate", "Kind", "Stage", "SubprocessClassifier"]

Kind = Literal["died", "hung", "garbled", "failed", "refused"]
Stage = Literal[
    "starting", "loading pycoral", "loading the delegate", "loading the model", "the first inference", "an inference"
]

_START_S: Final = 30.0  # Python and the runtime from an SD card; the device's deadlines begin after that
_END_S: Final = 0.2  # a killed child that has not ended by then is left to `reap_leftovers`
_GRACE_S: Final = 0.3
_MAX_STDERR: Final = 4096
_LONGEST_REPLY: Final = 1024


class ChildFailedError(InferenceError):
    """A call in the child process failed; after any `kind` but `failed` the child has ended.

    `kind`: `died` (by a signal or an exit code), `hung` (exceeded its deadline and was killed), `garbled` (broke the
    protocol and was killed), `failed` (the runtime reported an error, or the scores are not numbers), `refused` (the
    delegate or the model did not load).
    """

    def __init__(
        self,
        subject: str,
        kind: Kind,
        stage: Stage,
        reason: str,
        *,
        signal_name: str | None = None,
        last_output: str = "",
    ) -> None:
        self.kind = kind
        self.stage = stage
        self.reason = reason
        self.signal_name = signal_name
        self.last_output = last_output
        """The end of the child's stderr, at most 4 kB, without the runtime's INFO lines."""
        output = f"; its last output: {one_line(last_output)}" if last_output else ""
        super().__init__(f"{subject}: {reason}{output}")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits of the calls in the child, in seconds."""

    invoke_s: float = 0.5
    load_s: float = 10.0
    """For loading the delegate and the model, and again for the first inference, which uploads the model."""


class SubprocessClassifier(Classifier):
    """Runs a model in a child process; the constructor returns after the first inference.

    For one thread at a time, except `kill` and `alive`. `descriptors` stay open in the child (the device's lock).
    `spawned` is called as soon as the child exists, so that another thread can `kill` it while it loads.
    The constructor and `classify` raise ChildFailedError; after any kind but `failed` only `close` may be called.
    """

    runtime = "unknown"
    accelerator = ""

    def __init__(
        self,
        bundle: ModelBundle | Inspection,
        *,
        threads: int = 1,
        delegate: Delegate | None = None,
        accelerator: str = "cpu",
        deadlines: Deadlines | None = None,
        descriptors: tuple[int, ...] = (),
        spawned: Callable[[SubprocessClassifier], None] | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.library_version: str | None = None
        self._subject = f"{bundle.path.name} on {accelerator}"
        self._deadlines = deadlines or Deadlines()
        self._shape, self._dtype = bundle.input.shape, np.dtype(bundle.input.dtype)
        self._scores = Scores(bundle.output, bundle.output_kind)
        self._number = 0
        self._usual_ms = self._limit_s = 0.0
        self._stage: Stage = "starting"
        self._output_text = bytearray()
        layout = TensorLayout.of(bundle)
        reap_leftovers()
        try:
            with contextlib.ExitStack() as on_error:
                self._memory = shared_memory(layout.size)
                on_error.callback(os.close, self._memory)
                self._input, self._output = layout.views(self._memory)
                self._process, self._control, self._stderr, self._lifeline = spawn(self._memory, descriptors)
                on_error.pop_all()
        except OSError as error:
            raise ChildFailedError(
                self._subject, "refused", "starting", f"no process can be started: {error}"
            ) from error
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)
        self._answer_events = [(self._control.fileno(), select.POLLIN)]
        try:
            if spawned is not None:
                spawned(self)
            self._load(layout.order(threads, delegate))
        except BaseException:
            self._end(0.0)
            raise

    @property
    def alive(self) -> bool:
        """Whether the child runs; any thread."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def classify(self, tensor: Tensor) -> Inference:
        """Classify one input tensor of exactly the model's shape and dtype. Raises ChildFailedError."""
        if tensor.shape != self._shape or tensor.dtype != self._dtype:
            raise ValueError(f"a tensor {tensor.shape} {tensor.dtype} for a model of {self._shape} {self._dtype}")
        return self._invoke(tensor, self._deadlines.invoke_s)

    def kill(self) -> None:
        """Kill the child, from any thread; a waiting `classify` raises ChildFailedError."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End the child and release everything; a child that does not end within 0.3 s is killed."""
        self._end(_GRACE_S)

    def _load(self, order: bytes) -> None:
        self._send(order)
        limit_s = _START_S
        while True:
            self._limit_s = limit_s
            answer = self._message(self._receive(limit_s))
            if "error" in answer:
                raise self._error("refused", str(answer.get("reason", "")))
            match answer.get("stage"):
                case "pycoral":
                    self._stage = "loading pycoral"
                case "started":
                    self.runtime = str(answer.get("runtime"))
                    self._stage, limit_s = "loading the delegate", self._deadlines.load_s
                case "library":
                    version = answer.get("version")
                    self.library_version = None if version is None else str(version)
                case "delegate":
                    self._stage = "loading the model"
                case "ready":
                    break
                case _:
                    raise self._garbled(f"sent {str(answer)[:100]!r}")
        self._stage = "the first inference"
        self._invoke(np.zeros(self._shape, self._dtype), self._deadlines.load_s)
        self._stage = "an inference"

    def _invoke(self, tensor: NDArray[Any], limit_s: float) -> Inference:
        self._input[...] = tensor
        self._number = (self._number + 1) & 0xFFFF_FFFF
        self._send(REQUEST.pack(self._number))
        self._limit_s = limit_s
        end = time.monotonic() + limit_s
        self._await_answer(limit_s)
        reply = self._receive(max(0.0, end - time.monotonic()), _LONGEST_REPLY)
        if len(reply) < REPLY.size:
            raise self._garbled(f"sent {reply!r}")
        number, done, milliseconds = REPLY.unpack_from(reply)
        if number != self._number:
            raise self._garbled(f"answered request {number} instead of {self._number}")
        if not done:
            raise self._error("failed", f"the runtime reported: {reply[REPLY.size :].decode('utf-8', 'replace')}")
        self._usual_ms = milliseconds
        try:
            confidences = self._scores.confidences(self._output)
        except InferenceError as error:
            raise self._error("failed", str(error)) from error
        return Inference(confidences, milliseconds, self.accelerator)

    def _await_answer(self, limit_s: float) -> None:
        """Sleep until shortly before the expected answer, then poll for at most 2 ms.

        Waking up takes a sleeping core up to 0.2 ms on virtual machines, less on real ones.
        """
        early_ms = int(min(self._usual_ms - 0.2, limit_s * 1000.0))  # poll counts whole milliseconds
        if early_ms > 0 and self._poll.poll(early_ms):
            return
        end = time.perf_counter() + 0.002
        while not self._poll.poll(0) and time.perf_counter() < end:
            pass

    def _send(self, message: bytes) -> None:
        try:
            self._control.send(message)
        except OSError as error:
            raise self._dead() from error

    def _receive(self, limit_s: float, longest: int = LONGEST_MESSAGE) -> bytes:
        """Return the child's next message; meanwhile read its stderr, so that it never blocks on a full pipe."""
        end = time.monotonic() + limit_s
        ready = self._poll.poll(limit_s * 1000.0)
        while ready != self._answer_events:  # equal in the usual case
            if any(descriptor == self._stderr for descriptor, _ in ready):
                self._drain()
            if any(descriptor != self._stderr for descriptor, _ in ready):
                break
            left_s = end - time.monotonic()
            if left_s <= 0.0:
                self._kill_and_wait()
                raise self._error("hung", f"{self._stage} took more than {self._limit_s:g} s; the process was killed")
            ready = self._poll.poll(left_s * 1000.0)
        try:
            message = self._control.recv(longest)
        except OSError as error:
            raise self._dead() from error
        if not message:
            raise self._dead()
        return message

    def _message(self, raw: bytes) -> dict[str, Any]:
        try:
            message = json.loads(raw)
        except ValueError as error:
            raise self._garbled(f"sent {raw[:100]!r}") from error
        if not isinstance(message, dict):
            raise self._garbled(f"sent {raw[:100]!r}")
        return message

    def _drain(self) -> bool:
        """Read stderr and store its last 4 kB; return False at its end."""
        try:
            piece = os.read(self._stderr, 65_536)
        except BlockingIOError:
            return True
        if not piece:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._stderr)
        self._output_text = (self._output_text + piece)[-_MAX_STDERR:]
        return bool(piece)

    def _dead(self) -> ChildFailedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code = self._kill_and_wait()
        if code is not None and code < 0:
            name = _signal_name(-code)
            return self._error("died", f"the process was killed by {name} during {self._stage}", name)
        return self._error("died", f"the process ended with exit code {code} during {self._stage}")

    def _garbled(self, what: str) -> ChildFailedError:
        self._kill_and_wait()
        return self._error("garbled", f"the process {what}, which breaks the protocol; it was killed")

    def _error(self, kind: Kind, reason: str, signal_name: str | None = None) -> ChildFailedError:
        deadline = time.monotonic() + _END_S
        while select.select([self._stderr], [], [], 0)[0] and self._drain() and time.monotonic() < deadline:
            pass
        lines = self._output_text.decode("utf-8", "replace").splitlines()
        output = "\n".join(line for line in lines if line.strip() and not line.startswith("INFO: "))
        return ChildFailedError(self._subject, kind, self._stage, reason, signal_name=signal_name, last_output=output)

    def _kill_and_wait(self) -> int | None:
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        return self._process.returncode

    def _end(self, grace_s: float) -> None:
        if self._control.fileno() < 0:
            return
        self._control.close()  # the child ends when it reads this
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        if self._kill_and_wait() is None:
            leave_to_reap(self._process)
        for descriptor in (self._stderr, self._lifeline, self._memory):
            os.close(descriptor)
        self._input = self._output = np.empty(0, self._dtype)  # the last view keeps the mapping open


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
