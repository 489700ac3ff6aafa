"""The child process: the same answers as in-process, and one typed error for whatever happens to it."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tflite_builder as tflite
from processes import is_running, open_files
from stand_in import build_delegate, model_pair, pixel

from edge_classifierd.inference.cpu import CpuClassifier
from edge_classifierd.inference.edgetpu.child_protocol import TensorLayout
from edge_classifierd.inference.edgetpu.subprocess_classifier import (
    ChildFailedError,
    Deadlines,
    Delegate,
    SubprocessClassifier,
)
from edge_classifierd.inference.runtime import find_runtime
from edge_classifierd.model.bundle import load_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_classifierd.model.bundle import ModelBundle


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_delegate(tmp_path_factory.mktemp("delegate"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelBundle, ModelBundle]:
    return model_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture
def start(library: Path, pair: tuple[ModelBundle, ModelBundle]) -> Iterator[Callable[..., SubprocessClassifier]]:
    """`start(mode=…, at=…)`: the compiled model in a child with the stand-in delegate."""
    made: list[SubprocessClassifier] = []

    def make(deadlines: Deadlines | None = None, **options: object) -> SubprocessClassifier:
        delegate = Delegate(str(library), {name: str(value) for name, value in options.items()})
        made.append(
            SubprocessClassifier(pair[0], delegate=delegate, accelerator="usb:0", deadlines=deadlines or Deadlines())
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def open_descriptors() -> list[str]:
    gc.collect()  # what another test has left is not to be closed in between
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def test_the_child_answers_as_the_same_classifier_in_process(pair: tuple[ModelBundle, ModelBundle]) -> None:
    inside = CpuClassifier(pair[1], find_runtime(), 1)
    outside = SubprocessClassifier(pair[1])
    for colour in ((250, 3, 0), (9, 200, 7), (0, 1, 255), (128, 128, 128)):
        tensor = pixel(*colour)
        np.testing.assert_array_equal(outside.classify(tensor).confidences, inside.classify(tensor).confidences)
    assert outside.runtime == inside.runtime
    assert outside.classify(pixel(1, 2, 3)).inference_ms > 0
    outside.close()
    outside.close()


def test_a_model_compiled_for_the_stand_in_gives_the_cpu_versions_scores(
    start: Callable[..., SubprocessClassifier], pair: tuple[ModelBundle, ModelBundle]
) -> None:
    on_tpu, on_cpu = start(), CpuClassifier(pair[1], find_runtime(), 1)
    assert on_tpu.library_version == "stand-in 1"
    for colour in ((250, 3, 0), (9, 200, 7), (0, 1, 255)):
        inference = on_tpu.classify(pixel(*colour))
        np.testing.assert_array_equal(inference.confidences, on_cpu.classify(pixel(*colour)).confidences)
        assert inference.accelerator == "usb:0"


@pytest.mark.parametrize(
    ("mode", "kind", "signal_name", "words"),
    [
        ("abort", "died", "SIGABRT", "killed by SIGABRT during an inference; its last output: F stand-in/usb.cc:7]"),
        ("segv", "died", "SIGSEGV", "killed by SIGSEGV during an inference"),
        ("exit", "died", None, "ended with exit code 7 during an inference"),
        ("hang", "hung", None, "an inference took more than 0.3 s; the process was killed"),
        ("fail", "failed", None, "USB transfer failed"),
    ],
)
def test_a_fault_in_an_inference_is_one_typed_error(
    start: Callable[..., SubprocessClassifier], mode: str, kind: str, signal_name: str | None, words: str
) -> None:
    classifier = start(Deadlines(invoke_s=0.3), mode=mode, at=3)
    classifier.classify(pixel(1, 2, 3))  # the second: the first was the warm-up
    began = time.monotonic()
    with pytest.raises(ChildFailedError) as caught:
        classifier.classify(pixel(1, 2, 3))
    assert time.monotonic() - began < 0.3 + 1.5  # 0.02 s on a quiet machine
    assert (caught.value.kind, caught.value.signal_name, caught.value.stage) == (kind, signal_name, "an inference")
    assert words in str(caught.value)
    assert "INFO:" not in str(caught.value)
    assert classifier.alive == (mode == "fail")


def test_a_child_that_died_stays_an_error(start: Callable[..., SubprocessClassifier]) -> None:
    classifier = start()
    os.kill(classifier.pid, signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(ChildFailedError, match="SIGKILL"):
            classifier.classify(pixel(1, 2, 3))


@pytest.mark.parametrize(
    ("options", "kind", "stage"),
    [
        ({"mode": "refuse"}, "refused", "loading the delegate"),
        ({"mode": "refuse-silent"}, "refused", "loading the delegate"),
        ({"mode": "abort", "in": "create"}, "died", "loading the delegate"),
        ({"mode": "hang", "in": "create"}, "hung", "loading the delegate"),
        ({"mode": "prepare"}, "refused", "loading the model"),
        ({"mode": "abort"}, "died", "the first inference"),
        ({"mode": "hang"}, "hung", "the first inference"),
        ({"mode": "fail"}, "failed", "the first inference"),
    ],
)
def test_a_fault_at_the_start_names_the_stage_and_leaves_nothing(
    start: Callable[..., SubprocessClassifier], options: dict[str, str], kind: str, stage: str
) -> None:
    descriptors, processes = open_descriptors(), children()
    with pytest.raises(ChildFailedError) as caught:
        start(Deadlines(load_s=0.5), **options)
    assert (caught.value.kind, caught.value.stage) == (kind, stage)
    assert open_descriptors() == descriptors
    assert children() == processes


def test_the_reason_of_a_refusal_comes_through(start: Callable[..., SubprocessClassifier]) -> None:
    with pytest.raises(ChildFailedError, match="claimed by somebody else"):
        start(mode="refuse")


def test_a_child_that_breaks_the_protocol_is_killed(start: Callable[..., SubprocessClassifier]) -> None:
    classifier = start()
    # Its answer to a request that it was not sent by `classify` comes first, with another number.
    classifier._send(b"\x63\0\0\0")
    with pytest.raises(ChildFailedError) as caught:
        classifier.classify(pixel(1, 2, 3))
    assert caught.value.kind == "garbled"
    assert not classifier.alive


def test_chatter_on_stderr_neither_blocks_the_child_nor_grows(pair: tuple[ModelBundle, ModelBundle]) -> None:
    classifier = SubprocessClassifier(pair[1])
    with open(f"/proc/{classifier.pid}/fd/2", "wb", buffering=0) as stderr:  # noqa: PTH123 - a pipe
        for _ in range(40):
            stderr.write(b"x" * 60_000 + b"\n")  # a pipe holds 64 kB
            classifier.classify(pixel(1, 2, 3))
        stderr.write(b"INFO: nothing\nthe end\n")
    os.kill(classifier.pid, signal.SIGABRT)
    with pytest.raises(ChildFailedError) as caught:
        classifier.classify(pixel(1, 2, 3))
    assert caught.value.last_output.endswith("the end")
    assert len(caught.value.last_output) <= 4096
    assert len(str(caught.value)) < 600
    classifier.close()


def test_the_child_inherits_nothing_but_what_it_needs(
    pair: tuple[ModelBundle, ModelBundle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        classifier = SubprocessClassifier(pair[1])
        folder = Path(f"/proc/{classifier.pid}")
        assert b"hunter2" not in (folder / "environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in (folder / "environ").read_bytes()
        targets = open_files(classifier.pid).values()
        classifier.close()
    kinds = sorted(target.split(":")[0] for target in targets)
    model = str(pair[1].path)
    # Standard input, output and error; control; memory and its mapping's; lifeline; and the model that it reads itself.
    memory = "/memfd"
    assert [kind for kind in kinds if kind != model] == ["/dev/null", memory, memory, "pipe", "pipe", "pipe", "socket"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_terminals_and_systemds_signals_do_not_end_the_child(
    pair: tuple[ModelBundle, ModelBundle], name: str
) -> None:
    classifier = SubprocessClassifier(pair[1])
    assert os.getpgid(classifier.pid) != os.getpgid(0)
    os.kill(classifier.pid, signal.Signals[name])
    classifier.classify(pixel(1, 2, 3))
    classifier.close()


@pytest.mark.parametrize("place", ["create", "invoke"])
def test_a_child_that_hangs_in_native_code_dies_with_its_parent(
    library: Path, pair: tuple[ModelBundle, ModelBundle], place: str
) -> None:
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from edge_classifierd.model.bundle import load_bundle\n"
        "from edge_classifierd.inference.edgetpu.subprocess_classifier import Deadlines, Delegate\n"
        "from edge_classifierd.inference.edgetpu.subprocess_classifier import SubprocessClassifier\n"
        "SubprocessClassifier(load_bundle(Path(sys.argv[1])), deadlines=Deadlines(60, 60), "
        "delegate=Delegate(sys.argv[2], {'mode': 'hang', 'in': sys.argv[3]}), "
        "spawned=lambda child: print(child.pid, flush=True))"
    )
    arguments = [sys.executable, "-c", script, str(pair[0].path), str(library), place]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        comm = Path(f"/proc/{child}/maps")
        deadline = time.monotonic() + 20
        while "libstandin" not in comm.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def test_a_thread_that_started_the_child_may_end(pair: tuple[ModelBundle, ModelBundle]) -> None:
    """PR_SET_PDEATHSIG would kill the child here."""
    import threading

    made: list[SubprocessClassifier] = []
    thread = threading.Thread(target=lambda: made.append(SubprocessClassifier(pair[1])))
    thread.start()
    thread.join()
    time.sleep(0.1)
    made[0].classify(pixel(1, 2, 3))
    made[0].close()


def test_a_replaced_model_that_does_not_fit_is_refused(pair: tuple[ModelBundle, ModelBundle]) -> None:
    from dataclasses import replace

    lying = replace(pair[1], input=replace(pair[1].input, shape=(1, 2, 2, 3)))
    with pytest.raises(ChildFailedError, match="in the file; convert the model again"):
        SubprocessClassifier(lying)


def test_a_wrong_tensor_is_a_bug_of_the_caller(pair: tuple[ModelBundle, ModelBundle]) -> None:
    classifier = SubprocessClassifier(pair[1])
    with pytest.raises(ValueError, match="a tensor"):
        classifier.classify(np.zeros((1, 2, 2, 3), np.uint8))
    classifier.close()


def test_a_missing_runtime_is_the_childs_sentence(
    pair: tuple[ModelBundle, ModelBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_CLASSIFIERD_RUNTIME", "tflite")
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    try:
        import tflite_runtime  # noqa: F401
    except ImportError:
        with pytest.raises(ChildFailedError, match="pip install tflite-runtime"):
            SubprocessClassifier(pair[1])


def test_no_descriptors_left_for_a_child_is_one_error(pair: tuple[ModelBundle, ModelBundle]) -> None:
    import resource

    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = [number for number in range(len(before) + 3) if str(number) not in before]
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused[2], hard))  # two are left
    try:
        with pytest.raises(ChildFailedError, match="no process can be started"):
            SubprocessClassifier(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_descriptors() == before


def test_scores_that_are_no_numbers_are_an_error_of_the_accelerator(tmp_path: Path) -> None:
    model = tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": b"a\nb\nc"})
    (tmp_path / "m.tflite").write_bytes(model)
    child = SubprocessClassifier(load_bundle(tmp_path / "m.tflite"))
    try:
        with pytest.raises(ChildFailedError, match=r"m\.tflite on cpu: .*scores are not numbers") as caught:
            child.classify(np.full((1, 1, 1, 3), np.nan, np.float32))
        assert caught.value.kind == "failed"
        assert child.classify(np.zeros((1, 1, 1, 3), np.float32)).confidences.shape == (3,)
    finally:
        child.close()


def test_no_memory_for_the_tensors_leaves_no_process(
    pair: tuple[ModelBundle, ModelBundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(TensorLayout, "views", full)
    before, processes = open_descriptors(), children()
    with pytest.raises(ChildFailedError, match=r"no process can be started: .*Cannot allocate memory"):
        SubprocessClassifier(pair[1])
    assert (open_descriptors(), children()) == (before, processes)
