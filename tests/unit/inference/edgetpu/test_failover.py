"""The policy over an Edge TPU: the CPU twin from the frame of a fault on, and back when the fault has ended."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stand_in import FRESH, LOADED, Machine, build_delegate, model_pair, pixel

from edge_classifierd.clock import SystemClock
from edge_classifierd.errors import InferenceError, MissingError, ModelError
from edge_classifierd.inference import factory
from edge_classifierd.inference.accelerated import Accelerated
from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.edgetpu.cpu_fallback import agrees
from edge_classifierd.inference.edgetpu.delegate import EdgeTpuSettings
from edge_classifierd.inference.edgetpu.device_lock import claim
from edge_classifierd.inference.edgetpu.devices import ROOT, Tpu
from edge_classifierd.inference.edgetpu.pool import EdgeTpuPool
from edge_classifierd.inference.factory import make_classifier
from edge_classifierd.inference.retries import QUICK_RETRIES, RetryBudget
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.model.bundle import load_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.inference.edgetpu.failover import FailoverClassifier
    from edge_classifierd.model.bundle import ModelBundle

DEADLINE_S = 0.6
RED = pixel(250, 3, 0)

pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelBundle, ModelBundle]:
    return model_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with one stick, at port 1-1."""
    made = Machine(tmp_path / "root")
    made.add("1-1")
    monkeypatch.setenv(ROOT, str(made.root))
    return made


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """A file: the stand-in misbehaves while it exists."""
    return tmp_path / "fault"


@pytest.fixture
def start(
    library: Path, pair: tuple[ModelBundle, ModelBundle], fault: Path, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(device: str = "usb:0", *, twin: bool = True, mode: str = "ok", count: int = 1, **settings: Any) -> Any:
        options = {"mode": mode, "while": str(fault), "journal": str(tmp_path / "journal"), **settings.pop("also", {})}
        edgetpu = EdgeTpuSettings(
            **{"library": str(library), "deadline_s": DEADLINE_S, "load_deadline_s": 2.0, "count": count, **settings},
            options=options,
        )
        made.append(make_classifier(pair[0], device, cpu_bundle=pair[1] if twin else None, edgetpu=edgetpu))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgetpu")] == []


def until(condition: Callable[[], Any], within_s: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


def journal(folder: Path) -> list[list[str]]:
    """(pid, device, performance) of each delegate that was made."""
    return [line.split() for line in (folder / "journal").read_text().splitlines()]


def test_a_healthy_tpu_is_used(start: Callable[..., Any], tmp_path: Path) -> None:
    classifier = start()
    assert isinstance(classifier, Accelerated)
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
def test_after_a_fault_the_twin_answers_and_the_tpu_comes_back(
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


def test_without_a_twin_a_broken_start_is_an_error_and_a_later_fault_an_inference_error(
    start: Callable[..., Any], fault: Path
) -> None:
    fault.touch()
    with pytest.raises(MissingError, match="USB transfer failed"):
        start(mode="fail", twin=False)
    fault.unlink()
    classifier = start(mode="fail", twin=False)
    fault.touch()
    for _ in range(3):
        with pytest.raises(InferenceError, match=r"set `model\.cpu_model`"):
            classifier.classify(RED)
    fault.unlink()
    until(lambda: classifier.accelerator == "usb:0")
    classifier.classify(RED)


class OtherRuntime(CpuClassifier):
    """A twin in another runtime than the child's: tflite-runtime beside LiteRT, say."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(bundle, find_runtime(), 1)
        self.runtime = "another 1.0"


@pytest.mark.parametrize("count", [1, 2])
def test_the_runtime_is_that_of_what_computes(
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


def test_an_unplugged_stick_is_waited_for_and_used_when_it_is_back(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    classifier = start(also={"mode": "ok"})
    os.kill(child_of(classifier), signal.SIGABRT)
    machine.remove("1-1")
    assert classifier.classify(RED).accelerator == "cpu"
    until(lambda: "no Edge TPU is plugged in" in (classifier.degradation or ""), 6.0)
    tries = len(journal(tmp_path))
    time.sleep(1.5)
    assert len(journal(tmp_path)) == tries
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0
    machine.add("1-1", LOADED)
    assert classifier.classify(RED).accelerator == "usb:0"


def test_a_stick_that_hangs_while_loading_is_not_waited_for_once_it_is_plugged_in_again(
    start: Callable[..., Any], fault: Path, machine: Machine, tmp_path: Path
) -> None:
    classifier = start(mode="stuck", load_deadline_s=60.0)
    fault.touch()
    assert classifier.classify(RED).accelerator == "cpu"
    until(lambda: len(journal(tmp_path)) == 2)  # the second child loads, and hangs
    time.sleep(0.3)
    fault.unlink()
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.classify(RED).accelerator == "usb:0") < 8.0
    assert classifier.degradation is None


def test_a_stick_in_another_port_is_found(start: Callable[..., Any], machine: Machine) -> None:
    classifier = start()
    os.kill(child_of(classifier), signal.SIGABRT)
    machine.remove("1-1")
    classifier.classify(RED)
    time.sleep(0.6)
    machine.add("2-4", FRESH)
    until(lambda: classifier.accelerator == "usb:0", 6.0)


def test_the_child_asks_the_library_for_the_number_of_its_port(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    """The library counts sticks without firmware first; sysfs is counted by port."""
    machine.add("1-2", FRESH)
    machine.listed_by_library("/dev/apex_0", "/sys/bus/usb/devices/1-2", "/sys/bus/usb/devices/1-1")
    classifier = start("usb:0")
    assert classifier.classify(RED).accelerator == "usb:0"
    assert [made[1] for made in journal(tmp_path)] == ["usb:1"]


def test_a_port_that_the_library_does_not_see_is_not_opened_by_another_number(
    start: Callable[..., Any], machine: Machine
) -> None:
    machine.listed_by_library("/sys/bus/usb/devices/4-1")
    with pytest.raises(MissingError, match=r"sees /sys/bus/usb/devices/4-1 but not /sys/bus/usb/devices/1-1"):
        start(twin=False)


def test_auto_without_a_tpu_set_accelerator_the_twin_and_takes_one_that_appears(
    start: Callable[..., Any], machine: Machine
) -> None:
    machine.remove("1-1")
    classifier = start("auto")
    assert classifier.classify(RED).accelerator == "cpu"
    assert classifier.degradation is None
    machine.add("1-1", FRESH)
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0


def test_a_tpu_that_another_process_uses_is_refused_by_name_and_taken_when_free(
    start: Callable[..., Any], machine: Machine
) -> None:
    lease = claim(Tpu("usb", 0, "1-1"), machine.root)
    with pytest.raises(MissingError, match="in use by another pipeline of this process"):
        start(twin=False)
    classifier = start()
    assert "in use by" in classifier.degradation
    lease.close()
    assert until(lambda: classifier.accelerator == "usb:0") < 8.0


def test_a_missing_library_is_said_at_once(start: Callable[..., Any]) -> None:
    with pytest.raises(MissingError, match=r"the library libnothing.so.9 is not installed .* install libedgetpu1-std"):
        start(twin=False, library="libnothing.so.9")
    classifier = start(library="libnothing.so.9")
    assert classifier.classify(RED).accelerator == "cpu"


def test_sysfs_out_of_sight_leaves_the_word_to_the_library(start: Callable[..., Any], machine: Machine) -> None:
    machine.remove("1-1")
    assert start("usb:0").classify(RED).accelerator == "usb:0"


def test_a_warm_card_tells_its_temperature_and_warns(start: Callable[..., Any], machine: Machine) -> None:
    machine.add_card()
    classifier = start("pci:0")
    ((name, warmth),) = classifier.warmth
    assert (name, warmth.temperature_c, warmth.clock_mhz) == ("pci:0", 45.0, 500.0)
    machine.add_card("apex_0", 91_000)
    until(lambda: "91 °C" in (classifier.heat_warning or ""))
    machine.add_card("apex_0", 60_000)
    until(lambda: classifier.heat_warning is None)


def test_a_hang_resets_the_port_only_when_asked(
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


@pytest.mark.parametrize("device", ["usb:0", "edgetpu"])
def test_a_plain_model_on_a_tpu_is_one_sentence(pair: tuple[ModelBundle, ModelBundle], device: str) -> None:
    with pytest.raises(ModelError, match="is not compiled for the Edge TPU; give the file with `_edgetpu`"):
        make_classifier(pair[1], device)


def test_auto_with_a_plain_model_is_the_cpu(pair: tuple[ModelBundle, ModelBundle]) -> None:
    assert isinstance(make_classifier(pair[1], "auto"), CpuClassifier)


def test_a_compiled_model_without_tpu_and_twin_is_one_sentence(
    pair: tuple[ModelBundle, ModelBundle], machine: Machine
) -> None:
    machine.remove("1-1")
    with pytest.raises(MissingError, match="none is plugged in; plug one in, or give the CPU version"):
        make_classifier(pair[0], "auto")


def test_a_compiled_model_with_device_cpu_runs_its_twin(pair: tuple[ModelBundle, ModelBundle]) -> None:
    assert make_classifier(pair[0], "cpu", cpu_bundle=pair[1]).classify(RED).accelerator == "cpu"
    with pytest.raises(MissingError, match="cannot run on the CPU"):
        make_classifier(pair[0], "cpu")


def test_a_twin_that_is_another_model_is_refused(pair: tuple[ModelBundle, ModelBundle], tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("red\ngreen\nviolet\n")
    with pytest.raises(ModelError, match=r"has the label `violet` where .* has `blue`"):
        make_classifier(pair[0], cpu_bundle=load_bundle(pair[1].path, other))
    with pytest.raises(ModelError, match="compiled for the Edge TPU too"):
        make_classifier(pair[0], cpu_bundle=pair[0])


@pytest.mark.parametrize("name", ["mobilenet_v1_0.75_192_quant", "mobilenet_v1_0.25_128_quant"])
def test_corals_pairs_are_twins(shared: Path, name: str) -> None:
    from edge_classifierd.inference.edgetpu.cpu_fallback import check_twin

    folder = shared / "data/coral"
    labels = folder / "imagenet_labels.txt"
    check_twin(load_bundle(folder / f"{name}_edgetpu.tflite", labels), load_bundle(folder / f"{name}.tflite", labels))


def test_a_pool_goes_on_when_one_of_its_tpus_dies(start: Callable[..., Any], machine: Machine, tmp_path: Path) -> None:
    machine.add("1-2")
    pool = start("edgetpu", count=2)
    assert isinstance(pool, EdgeTpuPool)
    assert isinstance(pool, Accelerated)
    assert pool.lanes == 2
    assert pool.accelerator == "usb:0, usb:1"
    used = {pool.classify(RED).accelerator for _ in range(4)}
    assert used == {"usb:0", "usb:1"}
    machine.remove("1-1")
    os.kill(int(journal(tmp_path)[0][0]), signal.SIGKILL)
    answers = [pool.classify(RED).accelerator for _ in range(20)]
    assert answers.count("cpu") <= 1
    assert set(answers[2:]) == {"usb:1"} or set(answers[2:]) == {"usb:0"}
    assert "1 of 2 Edge TPUs" in pool.degradation
    machine.add("1-1")
    until(lambda: pool.degradation is None, 6.0)


def test_without_a_twin_the_rest_of_a_pool_answers_for_the_one_that_died(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    machine.add("1-2")
    pool = start("edgetpu", count=2, twin=False)
    machine.remove("1-1")
    os.kill(int(journal(tmp_path)[0][0]), signal.SIGKILL)
    assert len({pool.classify(RED).accelerator for _ in range(6)}) == 1
    machine.remove("1-2")
    os.kill(int(journal(tmp_path)[1][0]), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InferenceError, match=r"set `model\.cpu_model`"):
            pool.classify(RED)


def test_nearly_equal_labels_agree_and_others_do_not() -> None:
    assert agrees(np.array([0.52, 0.48], np.float32), np.array([0.46, 0.54], np.float32))
    assert not agrees(np.array([0.52, 0.48], np.float32), np.array([0.40, 0.60], np.float32))


def test_a_pool_serves_several_threads_at_once(start: Callable[..., Any], machine: Machine, fault: Path) -> None:
    machine.add("1-2")
    fault.touch()
    pool = start("usb", count=2, mode="slow", deadline_s=2.0)  # 60 ms an inference
    began = time.monotonic()
    threads = [threading.Thread(target=lambda: [pool.classify(RED) for _ in range(5)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 10 * 0.06 * 0.85


def test_more_tpus_asked_for_than_there_are_is_a_degradation(start: Callable[..., Any]) -> None:
    pool = start("usb", count=2)
    assert pool.classify(RED).accelerator == "usb:0"
    assert "1 of 2" in pool.degradation


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


def child_of(classifier: FailoverClassifier) -> int:
    assert classifier._child is not None
    return classifier._child.pid


def children() -> list[int]:
    """All children of all our threads, zombies too."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def resident_kb() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


class ManualClock(SystemClock):
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_stick_that_dies_every_minute_is_not_retried_for_ever_at_full_pace() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, random.Random(1))
    tries = 0
    while clock.now_s < 86_400:
        clock.now_s += 60 + budget.failed()
        tries += 1
        if tries == 21:
            assert budget.exhausted
    assert tries < 24 * 25


def test_a_rare_failure_is_retried_soon() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock, random.Random(1))
    pauses = [budget.failed() for _ in range(QUICK_RETRIES)]
    assert all(0.18 <= pause <= 3.0 for pause in pauses)
    assert budget.failed() > 20
    clock.now_s += 3601
    assert budget.failed() <= 0.25
    assert not budget.exhausted
