"""Starts a model on one Edge TPU in a child process; one sentence for each way in which that fails.

Coral's `pycoral`, where it is installed and no library is configured, creates the delegate: it was built together with
its tflite-runtime and libedgetpu. Its `load_edgetpu_delegate` is the `load_delegate` of tflite-runtime, and a delegate
of tflite-runtime does not work in LiteRT's interpreter: the model then runs in tflite-runtime too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import MissingError, ModelError
from edge_classifierd.inference.edgetpu.subprocess_classifier import (
    ChildFailedError,
    Deadlines,
    Delegate,
    SubprocessClassifier,
)
from edge_classifierd.inference.runtime import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_classifierd.inference.edgetpu.device_lock import DeviceLock
    from edge_classifierd.model.bundle import ModelBundle

_DOCS: Final = "docs/edge-tpu.md"
LIBRARY: Final = "libedgetpu.so.1"
"""The library when none is configured, also that of `pycoral`."""

# The runtime's words; the library's reason follows, which libedgetpu leaves empty.
_LOADER: Final = "Failed to load delegate from"


@dataclass(frozen=True, slots=True)
class EdgeTpuSettings:
    """The section `model.edgetpu` of the configuration."""

    library: str | None = None
    """None: Coral's `pycoral` if it is installed, else `LIBRARY`."""
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    deadline_s: float = 0.5
    load_deadline_s: float = 10.0
    reset_on_hang: bool = False
    count: int = 1
    """Number of Edge TPUs that run this model."""


class EdgeTpuError(MissingError):
    """The Edge TPU cannot be used; `lasting` when only a person can change that (the library is missing)."""

    def __init__(self, sentence: str, *, lasting: bool = False, hung: bool = False) -> None:
        super().__init__(sentence)
        self.lasting = lasting
        self.hung = hung


def open_tpu(
    bundle: ModelBundle,
    lock: DeviceLock,
    settings: EdgeTpuSettings,
    *,
    spawned: Callable[[SubprocessClassifier], None] | None = None,
) -> SubprocessClassifier:
    """Start the model on the locked Edge TPU and run it once. Raises EdgeTpuError; ModelError for the model."""
    check_compiled(bundle)
    tpu = lock.tpu
    # libedgetpu reads options only with a device index, and then ignores the clock it was built for (-std or -max):
    # without `Performance` every stick would run at the maximum, which needs cooling. libedgetpu1-std uses `High`.
    options = {"Performance": "High"} if tpu.kind == "usb" else {}
    options |= {name: str(value) for name, value in settings.options.items()}
    options["device"] = str(tpu)
    versions = _Versions()

    def on_start(child: SubprocessClassifier) -> None:
        versions.child = child
        if spawned is not None:
            spawned(child)

    try:
        return SubprocessClassifier(
            bundle,
            delegate=Delegate(settings.library or LIBRARY, options, tpu.path, coral=settings.library is None),
            accelerator=str(tpu),
            deadlines=Deadlines(settings.deadline_s, settings.load_deadline_s),
            descriptors=lock.descriptors,
            spawned=on_start,
        )
    except ChildFailedError as error:
        raise _explained(error, bundle, str(tpu), settings, versions) from error


def check_compiled(bundle: ModelBundle) -> None:
    """Raise ModelError for a model that is not compiled for the Edge TPU."""
    if not bundle.edgetpu_compiled:
        raise ModelError(
            f"{bundle.path}: is not compiled for the Edge TPU; give the file with `_edgetpu` in its name "
            "(made by edgetpu_compiler) or set `device: cpu`"
        )


class _Versions:
    """The versions that the child reported before it ended."""

    child: SubprocessClassifier | None = None

    @property
    def runtime(self) -> str:
        return self.child.runtime if self.child else "unknown"

    def library(self, name: str) -> str:
        version = self.child.library_version if self.child else None
        return f"{name} ({version})" if version else f"{name} (of unknown version)"


def _explained(
    error: ChildFailedError, bundle: ModelBundle, tpu: str, settings: EdgeTpuSettings, versions: _Versions
) -> EdgeTpuError | ModelError:
    library = settings.library or LIBRARY
    if error.stage in {"starting", "loading pycoral"}:
        if error.kind == "refused":
            return EdgeTpuError(f"{tpu}: {error.reason}")
        without = "; remove pycoral, or set `model.edgetpu.library` to go without it"
        sentence = f"{tpu}: {error}{without if error.stage == 'loading pycoral' else ''}"
        return EdgeTpuError(sentence, hung=error.kind == "hung")
    if error.kind == "refused" and error.stage == "loading the delegate":
        return _refused(error.reason, tpu, library)
    if error.kind == "died":
        return EdgeTpuError(
            f"{tpu}: {error}; if it does so every time, {versions.library(library)} was not built for "
            f"{versions.runtime}: install the libedgetpu that belongs to it ({_DOCS})"
        )
    if error.kind in {"refused", "failed"}:
        return EdgeTpuError(
            f"{tpu}: {versions.library(library)} does not run {bundle.path.name} with {versions.runtime}: "
            f"{one_line(error.reason)}; plug the stick in again, or compile the model for this library"
        )
    return EdgeTpuError(f"{tpu}: {error}", hung=error.kind == "hung")


def _refused(reason: str, tpu: str, library: str) -> EdgeTpuError:
    if "cannot open shared object file" in reason or "No such file" in reason:
        return EdgeTpuError(
            f"{tpu}: the library {library} is not installed ({one_line(reason)}); "
            f"install libedgetpu1-std or set `model.edgetpu.library` ({_DOCS})",
            lasting=True,
        )
    own = reason.partition(_LOADER)[2].strip().removeprefix(library).strip() if _LOADER in reason else reason.strip()
    if not own:
        return EdgeTpuError(
            f"{tpu}: {library} was loaded but found no Edge TPU that it may open, and gives no reason; check that it "
            f"is plugged in, that the user is in the group plugdev, and that no other process uses it ({_DOCS})"
        )
    return EdgeTpuError(f"{tpu}: {library} refused: {one_line(own)}")
