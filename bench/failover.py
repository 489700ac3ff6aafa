"""What a fault of the Edge TPU costs: the time to the first CPU result, and from its recovery to its use.

usage: python bench/failover.py [MODEL] [--rounds 3] [--faults hang,abort,…] [--deadline 0.5] [--json]

Needs no Edge TPU: the tests' stand-in for libedgetpu (tests/native) is built with the system's C compiler, and MODEL,
by default the bundled one, is compiled for it. The rest is what the daemon runs: the child process, its deadlines, the
CPU twin, the retries. Frames come 20 times a second; a round is a fault, an outage of 0.3 to 8 s, and the recovery.
Exits 0 when every round holds (deadline + 300 ms, back within 5 s), 1 when one does not, 3 when it cannot be measured.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.model.bundle import bundled_model_path, load_bundle

try:
    from stand_in import FRESH, Machine, build_delegate, compiled, find_compiler
except ModuleNotFoundError as error:
    print(f"{error.name}: not installed; run `pip install -e '.[dev]'` for what the tests need", file=sys.stderr)
    raise SystemExit(3) from error

if TYPE_CHECKING:
    from edge_classifierd.inference.base import Classifier, Inference
    from edge_classifierd.model.bundle import ModelBundle

FAULTS: Final = {
    "hang": ("hang", "hangs in invoke"),
    "abort": ("abort", "aborts its process"),
    "segv": ("segv", "crashes its process (SIGSEGV)"),
    "fail": ("fail", "reports an error from invoke"),
    "unplug": ("abort", "aborts, is gone, is plugged in again"),
    "stuck": ("stuck", "hangs until it is plugged in again"),
}
"""By name: the stand-in's mode, and what happens."""
MOST_MS: Final = 300.0
MOST_S: Final = 5.0
FRAME_S: Final = 0.05
OUTAGES_S: Final = (0.3, 8.0)
GIVE_UP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """One fault and its end."""

    to_cpu_ms: float
    """From the fault, or from the deadline when it hangs."""
    back_s: float
    """From the end of the fault to the first answer of the Edge TPU."""

    @property
    def holds(self) -> bool:
        return self.to_cpu_ms <= MOST_MS and self.back_s <= MOST_S


class Scene:
    """A machine with one stick, the stand-in's library, and a model with its twin."""

    def __init__(self, folder: Path, model: Path, deadline_s: float) -> None:
        self.folder = folder
        self.deadline_s = deadline_s
        self.library = build_delegate(folder)
        path = folder / f"{model.stem}_edgetpu.tflite"
        path.write_bytes(compiled(model.read_bytes()))
        self.bundle: ModelBundle = load_bundle(path)
        self.twin: ModelBundle = load_bundle(model)
        noise = np.random.default_rng(1).integers(0, 256, self.twin.input.shape, np.uint8)
        quantised = self.twin.input.dtype != "float32"
        self.tensor: Any = noise.view(self.twin.input.dtype) if quantised else noise.astype(np.float32) / 128 - 1
        self.runtime = ""

    def play(self, number: int, fault: str, outage_s: float) -> Round:
        machine = Machine(self.folder / f"root{number}")
        machine.add("1-1")
        broken = self.folder / f"broken{number}"  # the stand-in misbehaves while this file exists
        options = {"mode": FAULTS[fault][0], "while": str(broken)}
        settings = EdgeTpuSettings(str(self.library), options, self.deadline_s)
        classifier = make_classifier(self.bundle, "usb:0", cpu_bundle=self.twin, edgetpu=settings, root=machine.root)
        self.runtime = classifier.runtime
        try:
            for _ in range(10):
                self.frame(classifier, "usb:0")
            if fault == "unplug":
                machine.remove("1-1")
            broken.touch()
            start = time.perf_counter()
            self.frame(classifier, "cpu")
            to_cpu_ms = (time.perf_counter() - start) * 1000.0
            while time.perf_counter() - start < outage_s:
                self.frame(classifier, "cpu")
                time.sleep(FRAME_S)
            broken.unlink()
            if fault in {"unplug", "stuck"}:
                machine.add("1-1", FRESH)
            start = time.perf_counter()
            while (took_s := time.perf_counter() - start) < GIVE_UP_S:
                if self.frame(classifier).accelerator == "usb:0":
                    break
                time.sleep(FRAME_S)
        finally:
            classifier.close()
        waited_s = self.deadline_s if fault in {"hang", "stuck"} else 0.0
        return Round(to_cpu_ms - waited_s * 1000.0, took_s)

    def frame(self, classifier: Classifier, accelerator: str | None = None) -> Inference:
        inference = classifier.classify(self.tensor)
        if accelerator not in {None, inference.accelerator}:
            raise RuntimeError(f"{inference.accelerator} answered instead of {accelerator}")
        return inference


def measure(scene: Scene, faults: list[str], rounds: int) -> dict[str, list[Round]]:
    """All rounds by fault; the outages are spread evenly, so that the recovery falls on each part of a pause."""
    shortest, longest = OUTAGES_S
    took: dict[str, list[Round]] = {fault: [] for fault in faults}
    for turn in range(rounds):
        for position, fault in enumerate(faults):
            share = (turn + position / len(faults)) / rounds
            number = turn * len(faults) + position
            took[fault].append(scene.play(number, fault, shortest + (longest - shortest) * share))
    return took


def print_table(scene: Scene, took: dict[str, list[Round]]) -> None:
    shape = "x".join(map(str, scene.twin.input.shape[1:]))
    print(f"{scene.twin.name} {shape}, deadline {scene.deadline_s * 1000:g} ms, {scene.runtime}")
    print(f"{'':40}{'first CPU result (ms)':>24}{'back in use (s)':>22}")
    print(f"{'the Edge TPU …':40}{'median':>15}{'worst':>9}{'median':>13}{'worst':>9}{'rounds':>8}")
    for fault, rounds in took.items():
        waited, back = [one.to_cpu_ms for one in rounds], [one.back_s for one in rounds]
        print(
            f"{FAULTS[fault][1]:40}{statistics.median(waited):15.1f}{max(waited):9.1f}"
            f"{statistics.median(back):13.2f}{max(back):9.2f}{len(rounds):8}"
        )


def as_document(scene: Scene, took: dict[str, list[Round]], *, holds: bool) -> dict[str, Any]:
    figures = {
        fault: {
            "to_cpu_ms_median": round(statistics.median(one.to_cpu_ms for one in rounds), 1),
            "to_cpu_ms_worst": round(max(one.to_cpu_ms for one in rounds), 1),
            "back_s_median": round(statistics.median(one.back_s for one in rounds), 2),
            "back_s_worst": round(max(one.back_s for one in rounds), 2),
            "rounds": len(rounds),
        }
        for fault, rounds in took.items()
    }
    limits = {"to_cpu_ms": MOST_MS, "back_s": MOST_S}
    deadline_ms = scene.deadline_s * 1000.0
    return {"model": scene.twin.name, "runtime": scene.runtime, "deadline_ms": deadline_ms, "limits": limits,
            "faults": figures, "holds": holds}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path, nargs="?", default=bundled_model_path(), help="for the CPU, not compiled")
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--deadline", type=float, default=EdgeTpuSettings().deadline_s, help="of an inference, in s")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    faults = arguments.faults.split(",")
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"--faults {','.join(sorted(unknown))}: no such fault; allowed are {', '.join(FAULTS)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: must be at least 1")
    if find_compiler() is None:
        print("no C compiler (cc, gcc, clang) to build the stand-in Edge TPU with; install gcc", file=sys.stderr)
        return 3
    logging.disable(logging.WARNING)  # each round makes one, that is its point
    with tempfile.TemporaryDirectory(prefix="failover-bench-") as folder:
        scene = Scene(Path(folder), arguments.model, arguments.deadline)
        took = measure(scene, faults, arguments.rounds)
    holds = all(one.holds for rounds in took.values() for one in rounds)
    if arguments.json:
        print(json.dumps(as_document(scene, took, holds=holds)))
    else:
        print_table(scene, took)
        print("first CPU result: from the fault; from the end of the deadline where the Edge TPU hangs")
        print(f"at most {MOST_MS:g} ms, and back within {MOST_S:g} s: {'held' if holds else 'NOT HELD'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
