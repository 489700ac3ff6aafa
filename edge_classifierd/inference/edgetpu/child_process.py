"""The child process of `subprocess_classifier`: loads one model and runs it on the input in shared memory.

Started as `python -m edge_classifierd.inference.edgetpu.child_process CONTROL MEMORY LIFELINE` (three inherited
descriptors). CONTROL is a SOCK_SEQPACKET socket: it receives an order in JSON, sends a JSON message for each stage of
loading, then answers each `REQUEST` by a `REPLY` until the parent closes it. stderr is a pipe to the parent.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edge_classifierd.errors import EdgeClassifierError, MissingError
from edge_classifierd.inference.runtime import find_coral_runtime, find_runtime, has_coral, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edge_classifierd.inference.runtime import Interpreter, Runtime

REQUEST: Final = struct.Struct("<I")
"""The number of the inference; its input is in the shared memory."""
REPLY: Final = struct.Struct("<IBd")
"""The request's number, 1 for success or 0 for failure (the reason follows in UTF-8), milliseconds of invoke."""
LONGEST_MESSAGE: Final = 65_536


def main(arguments: list[str]) -> int:
    """Serve until the parent closes the control socket; return the exit code."""
    control_fd, memory_fd, lifeline_fd = (int(argument) for argument in arguments)
    _end_with_parent(lifeline_fd)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # only the parent ends this process
        signal.signal(ignored, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # core files of frequent aborts would fill the SD card
    with socket.socket(fileno=control_fd) as control:
        message = control.recv(LONGEST_MESSAGE)
        if not message:
            return 0
        order = json.loads(message)
        try:
            worker = _Worker(order, memory_fd, lambda stage, **facts: _send(control, stage=stage, **facts))
        except (EdgeClassifierError, _DelegateError) as error:
            kind = "missing" if isinstance(error, MissingError) else "model"
            _send(control, error="delegate" if isinstance(error, _DelegateError) else kind, reason=str(error))
            return 1
        _send(control, stage="ready")
        while request := control.recv(REQUEST.size + 1):
            (number,) = REQUEST.unpack(request)
            control.send(worker.answer(number))
    return 0


class _DelegateError(Exception):
    """The delegate could not be created; the message is the library's reason and may be empty."""


class _Worker:
    def __init__(self, order: dict[str, Any], memory_fd: int, report: Any) -> None:  # noqa: ANN401 - keywords of JSON
        runtime = _find_runtime(order, report)
        report("started", runtime=str(runtime))
        delegates = []
        if order["library"] is not None:
            delegates.append(_load_delegate(runtime, order, report))
            report("delegate")
        self._interpreter: Interpreter = runtime.make_interpreter(
            order["path"], order["threads"], delegates, tuple(order["input"]["shape"])
        )
        self._delegates = delegates
        image = self._interpreter.get_input_details()[0]
        scores = self._interpreter.get_output_details()[order["output_position"]]
        _check_tensor("input", order["input"], image)
        _check_tensor("output", order["output"], scores)
        self._input_index, self._output_index = int(image["index"]), int(scores["index"])
        memory = mmap.mmap(memory_fd, order["memory"])
        self._input = _tensor_at(memory, 0, order["input"])
        self._output = _tensor_at(memory, order["output_offset"], order["output"])

    def answer(self, number: int) -> bytes:
        interpreter = self._interpreter
        try:
            interpreter.set_tensor(self._input_index, self._input)
            start = time.perf_counter()
            interpreter.invoke()
            milliseconds = (time.perf_counter() - start) * 1000.0
            raw = interpreter.get_tensor(self._output_index)
        except (RuntimeError, ValueError) as error:
            return REPLY.pack(number, 0, 0.0) + one_line(str(error)).encode()
        output = self._output
        if raw.size != output.size or raw.dtype != output.dtype:  # numpy would convert it
            reason = f"the output is {raw.shape} {raw.dtype}, not {output.shape} {output.dtype}; convert it again"
            return REPLY.pack(number, 0, 0.0) + reason.encode()
        output[...] = raw.reshape(output.shape)
        return REPLY.pack(number, 1, milliseconds)


def _find_runtime(order: dict[str, Any], report: Any) -> Runtime:  # noqa: ANN401 - see _Worker
    if order["coral"] and has_coral():
        report("pycoral")
        try:
            return find_coral_runtime()
        except MissingError as error:
            sys.stderr.write(f"{error}\n")  # part of the error message if the next attempt fails too
    return find_runtime()


def _load_delegate(runtime: Runtime, order: dict[str, Any], report: Any) -> object:  # noqa: ANN401 - see _Worker
    options = dict(order["options"])
    try:
        library = ctypes.CDLL(order["library"])
        report("library", version=_library_version(library))
        if order["device_path"]:
            options["device"] = _device_string(library, options["device"], order["device_path"])
        return runtime.load_delegate(order["library"], options)
    except (ValueError, OSError, RuntimeError) as error:
        raise _DelegateError(str(error)) from error


def _library_version(library: ctypes.CDLL) -> str | None:
    """Return the version of libedgetpu: `BuildLabel(…), RuntimeVersion(14)`."""
    try:
        version = library.edgetpu_version
    except AttributeError:
        return None
    version.restype = ctypes.c_char_p
    text: bytes | None = version()
    return None if text is None else text.decode("utf-8", "replace")


class _Device(ctypes.Structure):
    """`struct edgetpu_device` of libedgetpu's public edgetpu_c.h: the type (0: PCIe, 1: USB) and the path."""

    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


def _device_string(library: ctypes.CDLL, wanted: str, path: str) -> str:
    """Return `usb:N` as the library counts now.

    It lists sticks without firmware first, so numbers change when a stick restarts: a wrong number would open a stick
    that another process uses, and end that process.
    """
    try:
        list_devices, free_devices = library.edgetpu_list_devices, library.edgetpu_free_devices
    except AttributeError:
        return wanted
    list_devices.argtypes, list_devices.restype = [ctypes.POINTER(ctypes.c_size_t)], ctypes.POINTER(_Device)
    free_devices.argtypes, free_devices.restype = [ctypes.POINTER(_Device)], None
    count = ctypes.c_size_t()
    listed = list_devices(ctypes.byref(count))
    kind = wanted.partition(":")[0]
    number = {"pci": 0, "usb": 1}[kind]
    paths = [os.fsdecode(listed[i].path) for i in range(count.value) if listed[i].type == number]
    if listed:
        free_devices(listed)
    if not paths:
        return wanted
    names = [os.path.basename(one) for one in paths]  # noqa: PTH119 - text of the library, not a file
    if os.path.basename(path) not in names:  # noqa: PTH119
        raise ValueError(f"the library sees {', '.join(paths)} but not {path}")
    return f"{kind}:{names.index(os.path.basename(path))}"  # noqa: PTH119


def _check_tensor(role: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    shape, dtype = [int(side) for side in found["shape"]], np.dtype(found["dtype"]).name
    if (shape, dtype) != (list(expected["shape"]), expected["dtype"]):
        raise EdgeClassifierError(
            f"the model's {role} is {shape} {dtype} for the runtime, but {expected['shape']} {expected['dtype']} in "
            "the file; convert the model again"
        )


def _tensor_at(memory: mmap.mmap, offset: int, spec: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(spec["dtype"])
    count = int(np.prod(spec["shape"]))
    return np.frombuffer(memory, dtype, count, offset).reshape(spec["shape"])


def _send(control: socket.socket, **facts: object) -> None:
    control.send(json.dumps(facts).encode()[:LONGEST_MESSAGE])


def _end_with_parent(lifeline_fd: int) -> None:
    """Make the kernel kill this process when the parent's end of the pipe closes, however the parent ends.

    PR_SET_PDEATHSIG would be bound to the *thread* that started this process. A signal of the kernel also works while
    native code hangs and holds Python's lock.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline_fd, select.POLLHUP)
    if poll.poll(0):  # the parent has ended already
        os._exit(1)


if __name__ == "__main__":
    # Skips the interpreter's shutdown: destructors of libedgetpu may hang or abort, and nothing is left to save.
    os._exit(main(sys.argv[1:]))
