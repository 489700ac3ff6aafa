"""The installed TensorFlow Lite runtime: LiteRT, else tflite-runtime.

With an Edge TPU also tflite-runtime together with Coral's own `pycoral`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_classifierd.errors import MissingError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

CHOICE: Final = "EDGE_CLASSIFIERD_RUNTIME"
"""Environment variable that allows one runtime only, `litert` or `tflite`; for tests and for finding faults."""

_RUNTIMES: Final = {
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter"),
    "tflite": ("tflite-runtime", "tflite_runtime.interpreter"),
}
_redirection = threading.Lock()


class Interpreter(Protocol):
    """The part of both runtimes' interpreters that this package uses."""

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dictionary per input, with `index`, `shape` and `dtype`."""

    def resize_tensor_input(self, input_index: int, tensor_size: list[int]) -> None:
        """Change the shape of an input; before the tensors are allocated."""

    def get_output_details(self) -> list[dict[str, Any]]:
        """One dictionary per output."""

    def set_tensor(self, tensor_index: int, value: NDArray[Any]) -> None:
        """Copy `value` into the tensor."""

    def invoke(self) -> None:
        """Run the graph; Python's interpreter lock is released."""

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """Return a copy of the tensor."""


@dataclass(frozen=True, slots=True)
class Coral:
    """Coral's own `pycoral`."""

    version: str
    module: Any
    """`pycoral.utils.edgetpu`"""


@dataclass(frozen=True, slots=True)
class Runtime:
    """An installed runtime; `str()` gives name and version: `ai-edge-litert 2.3.0`."""

    name: str
    version: str
    module: Any
    coral: Coral | None = None
    """Creates the Edge TPU's delegate instead of this runtime's `load_delegate`."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + (f" with pycoral {self.coral.version}" if self.coral else "")

    def make_interpreter(
        self,
        path: Path,
        threads: int,
        delegates: Sequence[object] = (),
        input_shape: tuple[int, ...] | None = None,
    ) -> Interpreter:
        """Load a model and allocate its tensors, with its input resized to `input_shape` where the file has another.

        Call `model.bundle.load_bundle` first: a damaged file, which it refuses, would end the process here. Raises
        ModelError; MissingError for a model compiled for the Edge TPU without a delegate.
        """
        resized = ""
        try:
            with contextlib.nullcontext() if delegates else _without_info_lines():
                interpreter = self.module.Interpreter(
                    model_path=str(path), num_threads=threads, experimental_delegates=list(delegates) or None
                )
                resized = _resize(interpreter, input_shape)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            if resized:
                raise ModelError(f"{path}: {resized} ({one_line(str(error))})") from error
            raise self._load_error(path, str(error)) from error
        return interpreter  # type: ignore[no-any-return]

    def load_delegate(self, library: str, options: Mapping[str, str]) -> object:
        """Load a delegate's shared library (`coral`: its own one). Raises what the runtime raises."""
        if self.coral is not None:
            return self.coral.module.load_edgetpu_delegate(dict(options))
        return self.module.load_delegate(library, dict(options))

    def _load_error(self, path: Path, reason: str) -> ModelError | MissingError:
        from edge_classifierd.model.bundle import model_title  # noqa: PLC0415 - the Edge TPU's process stays small

        title = model_title(path)
        if "edgetpu-custom-op" in reason:
            return MissingError(edgetpu_sentence(path))
        custom = re.search(r"unresolved custom op: ([\w:.-]+?)\.?(?:\s|$)", reason, re.IGNORECASE)
        if custom:
            return ModelError(
                f"{title}: needs the custom operator {custom[1]}, which {self} does not have; "
                "use a model made of TensorFlow Lite's own operators"
            )
        newer = re.search(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'", reason)
        if newer:
            return ModelError(
                f"{title}: needs the operator {newer[1]} in version {newer[2]}, which {self} does not have; "
                f"install a newer {self.name} or a model converted for an older one"
            )
        if "Select TensorFlow op" in reason:
            return ModelError(
                f"{title}: needs operators of the full TensorFlow, which {self} does not have; "
                "convert it with TensorFlow Lite's own operators only"
            )
        return ModelError(f"{title}: {self} cannot load it: {one_line(reason)}; give another model")


def _resize(interpreter: Interpreter, shape: tuple[int, ...] | None) -> str:
    """Give the input another shape; return the sentence for the case that the model does not support it, else ""."""
    details = interpreter.get_input_details()[0]
    stored = tuple(int(side) for side in details["shape"])
    if shape is None or stored == shape or len(stored) != len(shape):
        return ""
    signature = [int(side) for side in details.get("shape_signature", ())] or stored
    if any(at and signature[at] > 0 and stored[at] != side for at, side in enumerate(shape)):
        return ""  # another model than the one that was read: the caller compares the shapes
    interpreter.resize_tensor_input(int(details["index"]), list(shape))
    if stored[1:] == shape[1:]:
        return f"its batch is fixed at {stored[0]} pictures and cannot be changed to 1; convert it with a batch of 1"
    return f"its input cannot have the shape {shape}; set `model.input.size` to the size that it was trained with"


def find_runtime() -> Runtime:
    """Return the installed runtime, LiteRT before tflite-runtime. Raises MissingError with what to install."""
    choice = os.environ.get(CHOICE, "")
    if choice not in {"", *_RUNTIMES}:
        raise UsageError(f"{CHOICE}={choice}: no such runtime; allowed are {' and '.join(_RUNTIMES)}")
    broken: list[str] = []
    for key in [choice] if choice else _RUNTIMES:
        name, module_name = _RUNTIMES[key]
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != module_name.split(".", 1)[0]:
                broken.append(f"{name}: {one_line(str(error))}")
        except (ImportError, AttributeError, OSError) as error:  # built for another numpy or C library
            _raise_interruption(error)
            broken.append(f"{name}: {one_line(str(error))}")
        else:
            return Runtime(name, _version(name), module)
    wanted = _RUNTIMES[choice or "litert"][0]
    if broken:
        reasons = "; ".join(broken)
        raise MissingError(
            f"the TensorFlow Lite runtime does not start ({reasons}); run `pip install --force-reinstall {wanted}`"
        )
    raise MissingError(f"no TensorFlow Lite runtime is installed; run `pip install {wanted}`")


def _raise_interruption(error: BaseException) -> None:
    """Raise the KeyboardInterrupt or SystemExit that ended an import; native modules turn it into an ImportError."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception):
            raise cause
        cause = cause.__cause__ or cause.__context__


def has_coral() -> bool:
    """Return whether Coral's own `pycoral` is installed and `CHOICE` allows it.

    Imports nothing: the `pycoral` on PyPI is an unrelated project.
    """
    if os.environ.get(CHOICE) == "litert":
        return False
    try:
        spec = importlib.util.find_spec("pycoral")
    except (ImportError, ValueError):
        return False
    folders = (spec and spec.submodule_search_locations) or ()
    return any(Path(folder, "utils", "edgetpu.py").is_file() for folder in folders)


def find_coral_runtime() -> Runtime:
    """Return tflite-runtime with `pycoral`. Raises MissingError when they do not start; native code may also crash."""
    try:
        version = str(importlib.import_module("pycoral").__version__)
        coral = importlib.import_module("pycoral.utils.edgetpu")
        coral.load_edgetpu_delegate  # noqa: B018 - raises AttributeError now
        module = importlib.import_module("tflite_runtime.interpreter")
    except (ImportError, AttributeError, OSError, ValueError, RuntimeError) as error:  # built for another Python
        _raise_interruption(error)
        raise MissingError(
            f"pycoral is installed but does not start ({one_line(str(error))}); remove it, or install the one for this "
            "Python together with its tflite-runtime"
        ) from error
    return Runtime("tflite-runtime", _version("tflite-runtime"), module, Coral(version, coral))


def edgetpu_sentence(path: Path) -> str:
    """Return the sentence for a model compiled for the Edge TPU that should run on the CPU."""
    return (
        f"{path}: is compiled for the Edge TPU and cannot run on the CPU; give the CPU version of the model "
        "(the file without `_edgetpu` in its name)"
    )


def one_line(text: str) -> str:
    """Return a runtime's message as part of a sentence: on one line, at most 300 characters, no full stop."""
    return " ".join(text.split())[:300].rstrip(". ") or "no reason given"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


@contextlib.contextmanager
def _without_info_lines() -> Iterator[None]:
    """Drop the INFO lines that native code writes to stderr while loading ("Created TensorFlow Lite XNNPACK …").

    No environment variable silences them. All other output of that time, also of other threads, is written afterwards.
    Not used with delegates: their output before an abort must not be lost.
    """
    with _redirection:
        try:
            stderr = os.dup(2)
        except OSError:  # a process without stderr
            yield
            return
        catcher = os.memfd_create("stderr")
        os.dup2(catcher, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            with os.fdopen(catcher, "rb") as caught:
                caught.seek(0)
                kept = b"".join(line for line in caught if not line.startswith(b"INFO: "))
            if kept:
                os.write(2, kept)
