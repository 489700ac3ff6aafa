"""The trial of a model: built and run once in a child process, so that a crash of the runtime ends only that."""

from __future__ import annotations

import os
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Final

from edge_classifierd.errors import ModelError, ModelRefusedError
from edge_classifierd.inference.runtime import CHOICE
from edge_classifierd.model.bundle import is_bundled, model_title
from edge_classifierd.state_file import StateFile

if TYPE_CHECKING:
    from pathlib import Path

    from edge_classifierd.clock import Clock
    from edge_classifierd.model.bundle import ModelBundle
    from edge_classifierd.model.inspection import Inspection

_DEADLINE_S: Final = 30.0
_MOST_REMEMBERED: Final = 200
_REFUSED_FOR_S: Final = 300.0
"""How long a refusal is believed: the cause may have been a shortage of memory."""
_VERSION: Final = "models that passed, version 1"
_RUNTIME_PACKAGES: Final = ("ai-edge-litert", "tflite-runtime")


def try_model(bundle: ModelBundle | Inspection) -> None:
    """Build a model for the CPU in a child process and run it once there; takes about a second.

    Raises ModelError with one sentence when the runtime crashes or hangs, ModelRefusedError when it refuses the model
    or gives another output than the file describes.
    """
    # Only here: most commands never start a child process.
    from edge_classifierd.inference.edgetpu.subprocess_classifier import (  # noqa: PLC0415
        ChildFailedError,
        Deadlines,
        SubprocessClassifier,
    )

    try:
        SubprocessClassifier(bundle, deadlines=Deadlines(_DEADLINE_S, _DEADLINE_S)).close()
    except ChildFailedError as error:
        reason = error.reason.removeprefix(f"{model_title(bundle.path)}: ")
        if error.kind in {"died", "hung"}:
            reason += "; the runtime cannot use this model, give another one"
        refused = error.kind in {"refused", "failed"} and error.stage != "starting"
        kind = ModelRefusedError if refused else ModelError
        raise kind(f"{model_title(bundle.path)}: {reason}") from error


class ModelTrials:
    """Tries each model once, and records in a file which ones have passed, by hash and runtime; any thread.

    A refusal is remembered for five minutes: a pipeline that is tried again must not start a process each time.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        """Read the file; one that is missing or damaged only means that models are tried again."""
        self._clock = clock
        self._refused: dict[tuple[str, Path], tuple[float, str]] = {}
        self._file = StateFile(file, _VERSION, "models are tried again at the next start")
        self._lock = threading.Lock()  # one trial at a time: each takes the memory of a whole model
        self._passed: dict[str, None] = self._file.read(lambda keys: dict.fromkeys(map(str, keys)), {})

    def passed(self, bundle: ModelBundle) -> bool:
        """Return whether the model has passed with the runtime that is installed now; a bundled one always has."""
        return is_bundled(bundle.path) or _key(bundle) in self._passed

    def require(self, bundle: ModelBundle) -> None:
        """Try the model unless it has passed before. Raises ModelError."""
        with self._lock:
            if self.passed(bundle):
                return
            self._try(bundle)
            passed = [*self._passed, _key(bundle)][-_MOST_REMEMBERED:]
            self._passed = dict.fromkeys(passed)
            self._file.write(passed, durably=False)

    def _try(self, bundle: ModelBundle) -> None:
        key = (_key(bundle), bundle.path)
        now_s = self._clock.monotonic()
        self._refused = {one: found for one, found in self._refused.items() if now_s - found[0] < _REFUSED_FOR_S}
        if key in self._refused:
            raise ModelRefusedError(self._refused[key][1])
        try:
            try_model(bundle)
        except ModelRefusedError as error:
            self._refused[key] = (now_s, str(error))
            raise


def _key(bundle: ModelBundle) -> str:
    """Return the model's hash, how it is used, and the runtimes that could run it: another one may refuse it."""
    how = f"{bundle.input.shape} {bundle.output_position}"
    return " ".join([bundle.sha256, how, *_runtimes(), os.environ.get(CHOICE, "")]).strip()


def _runtimes() -> tuple[str, ...]:
    """Return the installed runtimes with their versions, without importing them."""
    found = []
    for package in _RUNTIME_PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)
