"""Faults of an Edge TPU: the CPU classifies from the frame of the fault on, until the Edge TPU works again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from failover_fakes import DEADLINE_S, RED, child_of, journal, until

from edge_classifierd.backoff import RetryBudget
from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, MissingError
from edge_classifierd.inference import factory
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.runtime import find_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from stand_in import Machine

    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier
    from edge_classifierd.model.bundle import ModelBundle

pytestmark = pytest.mark.usefixtures("machine")


def test_a_healthy_tpu_is_used(start: Callable[..., Any], tmp_path: Path) -> None:
    classifier = start()
    inference = classifier.classify(RED)
    assert (inference.accelerator, classifier.accelerator) == ("usb:0", "usb:0")
    assert classifier.degradation is None
    assert classifier.runtime.startswith(("ai-edge-litert", "tflite-runtime"))
    assert [made[1:] for made in journal(tmp_path)] == [["usb:0", "High"]]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("abort", "SIGABRT"),
        ("segv", "SIGSEGV"),
        ("hang", "took more than 0.6 s"),
        ("fail", "USB transfer failed"),
        ("exit", "exit code 7"),
    ],
)
def test_after_a_fault_the_cpu_classifies_until_the_tpu_works_again(
    start: Callable[..., Any], fault: Path, mode: str, words: str
) -> None:
    classifier = start(mode=mode)
    expected = classifier.classify(RED).confidences
    pid = os.getpid()
    fault.touch()
    began = time.monotonic()
    inference = classifier.classify(RED)
    assert time.monotonic() - began < DEADLINE_S + 1.5  # 0.03 s on a quiet machine
    assert inference.accelerator == classifier.accelerator == "cpu"
    np.testing.assert_array_equal(inference.confidences, expected)
    assert words in classifier.degradation
    assert "classifying on the CPU meanwhile" in classifier.degradation
    for _ in range(10):
        assert classifier.classify(RED).accelerator == "cpu"
        time.sleep(0.03)
    fault.unlink()
    assert until(lambda: classifier.classify(RED).accelerator == "usb:0") < 8.0
    assert classifier.degradation is None
    assert os.getpid() == pid


@pytest.mark.parametrize(
    ("mode", "place", "words"),
    [
        ("refuse", "invoke", "refused: stand-in: the device is claimed by somebody else"),
        ("refuse-silent", "invoke", "found no Edge TPU that it may open, and gives no reason; check that it"),
        ("prepare", "invoke", "stand-in: the executable was made for another runtime version"),
        ("abort", "create", "SIGABRT during loading the delegate"),
        ("segv", "invoke", r"libstandin.so (stand-in 1) was not built for"),
        ("hang", "invoke", "the first inference took more than 2 s"),
    ],
)
def test_a_tpu_that_is_broken_at_the_start_is_used_once_it_works(
    start: Callable[..., Any], fault: Path, mode: str, place: str, words: str
) -> None:
    fault.touch()
    classifier = start(mode=mode, also={"in": place})
    assert classifier.classify(RED).accelerator == "cpu"
    assert words in classifier.degradation
    fault.unlink()
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0


def test_without_a_cpu_model_a_broken_start_is_an_error_and_a_later_fault_an_inference_error(
    start: Callable[..., Any], fault: Path
) -> None:
    fault.touch()
    with pytest.raises(MissingError, match="USB transfer failed"):
        start(mode="fail", fallback=False)
    fault.unlink()
    classifier = start(mode="fail", fallback=False)
    fault.touch()
    for _ in range(3):
        with pytest.raises(InferenceError, match=r"set `model\.cpu_model`"):
            classifier.classify(RED)
    fault.unlink()
    until(lambda: classifier.accelerator == "usb:0")
    classifier.classify(RED)


class OtherRuntime(CpuClassifier):
    """A fallback in another runtime than the child's, such as tflite-runtime beside LiteRT."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(bundle, find_runtime(), 1)
        self.runtime = "another 1.0"


@pytest.mark.parametrize("count", [1, 2])
def test_the_runtime_in_use_is_reported(
    library: Path, pair: tuple[ModelBundle, ModelBundle], fault: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(factory, "CpuClassifier", lambda bundle, *_: OtherRuntime(bundle))
    settings = EdgeTpuSettings(str(library), {"mode": "abort", "while": str(fault)}, DEADLINE_S, count=count)
    fault.touch()
    classifier = make_classifier(pair[0], "usb", cpu_bundle=pair[1], edgetpu=settings)
    try:
        assert (classifier.accelerator, classifier.runtime) == ("cpu", "another 1.0")
        fault.unlink()
        until(lambda: classifier.accelerator == "usb:0")
        assert classifier.runtime == str(find_runtime())
        fault.touch()
        assert classifier.classify(RED).accelerator == "cpu"
        assert classifier.runtime == "another 1.0"
    finally:
        classifier.close()


def test_wrong_answers_keep_the_tpu_out_of_use(start: Callable[..., Any], fault: Path) -> None:
    classifier = start(mode="wrong")
    classifier.classify(RED)
    fault.touch()
    os.kill(child_of(classifier), signal.SIGKILL)
    assert classifier.classify(RED).accelerator == "cpu"
    until(lambda: "differ from the CPU's" in (classifier.degradation or ""))
    assert classifier.classify(RED).accelerator == "cpu"
    fault.unlink()
    until(lambda: classifier.classify(RED).accelerator == "usb:0")


def test_a_death_while_no_frames_come_is_noticed(start: Callable[..., Any], fault: Path) -> None:
    classifier = start(mode="refuse-silent")
    fault.touch()
    os.kill(child_of(classifier), signal.SIGKILL)
    until(lambda: classifier.degradation is not None, 3.0)
    fault.unlink()
    until(lambda: classifier.degradation is None, 5.0)


def test_a_missing_library_is_reported_at_once(start: Callable[..., Any]) -> None:
    with pytest.raises(MissingError, match=r"the library libnothing.so.9 is not installed .* install libedgetpu1-std"):
        start(fallback=False, library="libnothing.so.9")
    classifier = start(library="libnothing.so.9")
    assert classifier.classify(RED).accelerator == "cpu"


def test_a_hot_card_reports_its_temperature_and_warns(start: Callable[..., Any], machine: Machine) -> None:
    machine.add_card()
    classifier = start("pci:0")
    ((name, temperature),) = classifier.temperatures
    assert (name, temperature.temperature_c, temperature.clock_mhz) == ("pci:0", 45.0, 500.0)
    machine.add_card("apex_0", 91_000)
    until(lambda: "91 °C" in (classifier.heat_warning or ""))
    machine.add_card("apex_0", 60_000)
    until(lambda: classifier.heat_warning is None)


def test_a_hang_resets_the_port_only_where_configured(
    start: Callable[..., Any], fault: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for reset in (False, True):
        caplog.clear()
        classifier = start(mode="hang", reset_on_hang=reset)
        fault.touch()
        classifier.classify(RED)
        fault.unlink()
        until(lambda: classifier.accelerator == "usb:0")  # noqa: B023 - called here
        assert ("cannot be reset: Inappropriate ioctl" in caplog.text) == reset
        classifier.close()


def test_a_hundred_kills_under_load_leak_nothing(start: Callable[..., Any]) -> None:
    class Patient(SystemClock):
        """An hour passes between any two failures, so that the budget stays fresh."""

        def __init__(self) -> None:
            super().__init__()
            self.ahead_s = 0.0

        def monotonic(self) -> float:
            self.ahead_s += 3600.0
            return super().monotonic() + self.ahead_s

    others = set(children())  # of earlier tests
    classifier: FailoverClassifier = start()
    classifier._budget = RetryBudget(Patient())
    kills = 100 if os.environ.get("EDGE_CLASSIFIERD_LONG") == "1" else 15
    measured = []
    for number in range(kills + 5):
        until(lambda: classifier.classify(RED).accelerator == "usb:0")
        if number in {5, kills + 4}:
            descriptors = sorted(path.name for path in Path("/proc/self/fd").iterdir())
            measured.append((descriptors, set(children()) - others, resident_kb()))
        os.kill(child_of(classifier), signal.SIGKILL)
        while classifier.classify(RED).accelerator == "usb:0":
            pass
    (fds, processes, before_kb), (fds_after, processes_after, after_kb) = measured
    assert len(fds) == len(fds_after)
    assert len(processes) == len(processes_after) == 1
    assert after_kb - before_kb < 4096
    assert not any(path.name.startswith(("psm_", "edge-")) for path in Path("/dev/shm").iterdir())


def children() -> list[int]:
    """All children of all our threads, zombies too."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def resident_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])
