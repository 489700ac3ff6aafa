"""Tries the runtime in a child process, and explains what ended that process."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from edge_classifierd.doctor.check_result import CheckResult, from_sentence
from edge_classifierd.errors import EdgeClassifierError, ExitCode
from edge_classifierd.inference.runtime import find_runtime, one_line

_TRIAL: Final = "from edge_classifierd.doctor.check_runtime import try_runtime; try_runtime()"
_TRIAL_S: Final = 60.0
_EXPLAINED: Final = 64
"""Added to the child's exit code when its last line is a complete sentence. A traceback exits with 1."""
_LIBRARIES: Final = {"numpy": "numpy", "av": "av", "paho-mqtt": "paho.mqtt.client"}


def check_runtime() -> CheckResult:
    """Import the libraries with machine code and run the bundled model once. Takes a few seconds."""
    name = "runtime"
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(Path(__file__).resolve().parents[2]))))
    try:
        child = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-P", "-c", _TRIAL],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return CheckResult(name, "failed", f"the bundled model did not run within {_TRIAL_S:.0f} s", "see `dmesg`")
    last = (child.stdout.splitlines() or ["Python"])[-1]
    if child.returncode == ExitCode.OK:
        return CheckResult(name, "ok", last)
    if child.returncode < 0:
        return _killed(name, last, -child.returncode)
    if child.returncode >= _EXPLAINED:
        return from_sentence(name, last, missing=child.returncode == _EXPLAINED + ExitCode.MISSING)
    reason = one_line((child.stderr.splitlines() or ["no reason given"])[-1])
    return CheckResult(name, "failed", f"{last} does not start ({reason})", "install edge-classifierd again")


def try_runtime() -> None:
    """Run in the child: print each library before loading it, run the bundled model, print the versions."""
    try:
        for library, module in _LIBRARIES.items():
            _write(library)
            importlib.import_module(module)
        _write("the TensorFlow Lite runtime")
        runtime = find_runtime()
        _write(str(runtime))
        _run_bundled_model()
    except EdgeClassifierError as error:
        _write(one_line(str(error)))
        sys.exit(_EXPLAINED + error.exit_code)
    except ImportError as error:
        reason = one_line(str(error))
        _write(f"{library} does not start ({reason}); run `pip install --force-reinstall {library}`")
        sys.exit(_EXPLAINED + ExitCode.MISSING)
    versions = ", ".join(f"{library} {metadata.version(library)}" for library in _LIBRARIES)
    _write(f"{runtime} ({versions})")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _run_bundled_model() -> None:
    from edge_classifierd.inference.cpu import CpuClassifier  # noqa: PLC0415 - in the child, once each part is named
    from edge_classifierd.model.bundle import bundled_model_path, load_bundle  # noqa: PLC0415

    CpuClassifier(load_bundle(bundled_model_path()), find_runtime(), threads=1).close()


def _killed(name: str, library: str, number: int) -> CheckResult:
    if number == signal.SIGILL:
        said = (
            f"{library} stops with an illegal instruction (SIGILL): this processor ({_processor()}) lacks instructions "
            "that it was built with"
        )
        remedy = "use a newer processor; in a virtual machine give it the host's (QEMU: `-cpu host`)"
        return CheckResult(name, "failed", said, remedy, missing=True)
    try:
        how = signal.Signals(number).name
    except ValueError:
        how = f"signal {number}"
    remedy = "see `dmesg`, and install edge-classifierd again"
    return CheckResult(name, "failed", f"{library} ends the process with {how}", remedy, missing=True)


def _processor() -> str:
    """Return the name of the board, else of the processor, else the architecture."""
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        pass
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
