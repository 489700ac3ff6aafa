"""An exported model is taught and measured by `train` and `eval` as it is, with the figures of the page."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import av
from drawn_pictures import SHAPES, drawn
from teach_device import MODEL, TeachDevice

from edge_classifierd.clock import SystemClock
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path

    from broker_process import Broker


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_classifierd", *arguments], check=True, capture_output=True, text=True, cwd=folder
    )


def test_train_and_eval_take_the_folders_of_an_export(tmp_path: Path) -> None:
    store = TeachingStore(tmp_path, SystemClock())
    store.create("shapes")
    for shape in SHAPES:
        class_id = store.add_class("shapes", f"a {shape}").id
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(drawn(shape, number), format="rgb24")
            store.add_picture("shapes", class_id=class_id, picture=frame, source="camera")
    store.close()
    command(tmp_path, "teach", "export", "shapes", "-o", "shapes.zip", "--state", ".")
    with zipfile.ZipFile(tmp_path / "shapes.zip") as archive:
        archive.extractall(tmp_path)
    trained = command(tmp_path, "train", "train", "-o", "shapes.tflite", "--holdout", "0", "--augment", "0")
    assert "a disc" in trained.stdout + trained.stderr
    evaluation = json.loads(command(tmp_path, "eval", "held-out", "--model", "shapes.tflite", "--json").stdout)
    held = sum(1 for _ in (tmp_path / "held-out").rglob("*.jpg"))
    assert evaluation["images"] == held >= 3
    assert set(evaluation["per_class"]) == {f"a {shape}" for shape in SHAPES}


def test_the_accuracy_of_the_page_is_that_of_eval_on_the_exported_pictures(tmp_path: Path, broker: Broker) -> None:
    with TeachDevice(tmp_path, broker.port) as device:
        device.prepare()
        for number in range(200, 208):  # in the wrong class, so that not all are right
            device.upload("stripes", "disc", number)
        assert device.train()["stage"] == "finished"
        shown = device.get(f"{MODEL}/versions/1")
        for name, path in (("shapes.zip", "export.zip"), ("shapes.tflite", "versions/1/model.tflite")):
            status, content = device.request("GET", f"{MODEL}/{path}")
            assert status == 200
            (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "shapes.zip") as archive:
        archive.extractall(tmp_path)
    measured = json.loads(command(tmp_path, "eval", "held-out", "--model", "shapes.tflite", "--json").stdout)
    held = shown["held_out"]
    assert 0 < held["right"] < held["pictures"]
    assert measured["images"] == held["pictures"]
    assert measured["top1"] == round(held["right"] / held["pictures"], 6)
    assert measured["balanced_accuracy"] == round(held["balanced"], 6)
    assert shown["sentences"][0].startswith(f"Of {held['pictures']} pictures that it had never seen, {held['right']} ")
    assert {one["name"]: (one["pictures"], round(one["right"] / one["pictures"], 6)) for one in held["per_class"]} == {
        name: (one["images"], one["recall"]) for name, one in measured["per_class"].items()
    }
