"""One pipeline: commands from other threads, and its stop."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

import stand_in
import tflite_builder as tflite
from pipelines_scene import Scene, pipeline, until
from workers_scene import worker_threads

from edge_classifierd.pipeline.classifiers import Classifiers
from edge_classifierd.pipeline.planning.validation import prepare

if TYPE_CHECKING:
    from pathlib import Path


def test_the_last_of_many_commands_of_a_kind_takes_effect(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat", "dog")) as scene:
        (one,) = scene.pipelines.pipelines
        for number in range(1, 1001):
            one.set_threshold("cat", number / 1001)
            one.set_threshold("dog", 1 - number / 1001)
            one.set_enabled(number % 2 == 0)
        until(lambda: one.thresholds() == {"cat": 1000 / 1001, "dog": 1 - 1000 / 1001})
        until(lambda: one.online)


def test_a_camera_that_hangs_does_not_delay_the_stop_of_others(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "cat")) as scene:
        driveway, garden = scene.pipelines.pipelines
        scene.camera("driveway").deaf = True
        time.sleep(0.1)  # the read that it was in has ended, the next one hangs
        assert not driveway.stop(0.2)
        assert garden.stop(2.0)
        scene.camera("driveway").heals.set()
        assert driveway.stop(5.0)


def test_a_requested_stop_ends_the_capture_thread_without_a_wait(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat")) as scene:
        (one,) = scene.pipelines.pipelines
        captures = [thread for thread in threading.enumerate() if thread.name == "capture driveway"]
        one.request_stop()
        until(lambda: not any(thread.is_alive() for thread in captures))
        until(lambda: one._frames is not None and one._frames._ended)
        executed = threading.Event()
        one._tasks.put(executed.set)
        assert executed.wait(10)
        assert not one.finished, "its watches stay on"


def test_a_removed_pipeline_leaves_nothing_and_the_others_keep_their_worker(tmp_path: Path) -> None:
    with Scene(tmp_path, pipeline("driveway", "cat"), pipeline("garden", "cat")) as scene:
        worker = next(thread for thread in threading.enumerate() if thread.name == "infer-1")
        removed = weakref.ref(scene.pipelines.pipelines[1])
        camera = weakref.ref(scene.camera("garden"))
        scene.cameras.remove(scene.camera("garden"))
        assert scene.change_to(pipeline("driveway", "cat")) == 0
        until(lambda: gc.collect() >= 0 and removed() is None and camera() is None)
        assert not [name for name in scene.heartbeats._stages if "garden" in name]
        assert worker_threads() == ["infer-1", "report-1", "report-2", "report-3", "report-4"]
        assert worker.is_alive()
        (driveway,) = scene.pipelines.pipelines
        so_far = driveway.metrics.snapshot().inferences
        until(lambda: driveway.metrics.snapshot().inferences > so_far + 2)


def test_a_replaced_cpu_model_is_loaded(tmp_path: Path) -> None:
    stand_in.model_pair(tmp_path)
    cpu_model = tmp_path / "colours.tflite"
    model = {"path": "colours_edgetpu.tflite", "cpu_model": "colours.tflite", "device": "cpu", "threads": 1}
    section = pipeline("driveway") | {"model": model}
    scene = Scene(tmp_path, section)
    classifiers = Classifiers()
    (plan,) = scene.plans(section)
    first = classifiers.get(plan)
    assert classifiers.get(scene.plans(section)[0]) is first
    graph = tflite.classifier(tflite.SOFTMAX, "uint8", 1 / 16, 128)
    cpu_model.write_bytes(tflite.pack(graph, files={"labels.txt": b"red\ngreen\nblue\n", "note": b"another"}))
    (plan,) = scene.plans(section)
    assert classifiers.get(plan) is not first
    classifiers.close()
    scene.pipelines.close()
    scene.outbox.close()


def test_labels_in_a_folder_whose_name_is_not_utf_8_are_read(tmp_path: Path) -> None:
    stand_in.model_pair(tmp_path)
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    model = f"{{path: {tmp_path}/colours.tflite, labels: labels.txt, threads: 1}}"
    (folder / "c.yaml").write_text(f"pipelines: [{{name: a, source: {{type: v4l2}}, model: {model}}}]")
    _, plans = prepare(folder / "c.yaml")
    classifiers = Classifiers()
    assert classifiers.get(plans[0]).accelerator == "cpu"
    classifiers.close()


def test_copies_of_a_model_with_the_same_settings_are_loaded_once(tmp_path: Path) -> None:
    stand_in.model_pair(tmp_path)
    (tmp_path / "copy.tflite").write_bytes((tmp_path / "colours.tflite").read_bytes())
    (tmp_path / "labels.txt").write_text("rot\nblau\ngruen\n")
    models = (
        "{path: colours.tflite, threads: 1}",
        "{path: copy.tflite, threads: 1}",
        "{path: colours.tflite, labels: labels.txt, threads: 1}",
        "{path: colours.tflite, threads: 2}",
    )
    sources = [f"{{name: p{n}, source: {{type: v4l2, device: /dev/v{n}}}, model: {m}}}" for n, m in enumerate(models)]
    (tmp_path / "c.yaml").write_text(f"pipelines: [{', '.join(sources)}]")
    _, plans = prepare(tmp_path / "c.yaml")
    classifiers = Classifiers()
    first, *others = map(classifiers.get, plans)
    assert [other is first for other in others] == [True, True, False]
    classifiers.keep_only(plans[1:2])
    assert classifiers.get(plans[0]) is first
    classifiers.close()
