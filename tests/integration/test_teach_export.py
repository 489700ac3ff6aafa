"""An exported model is taught and measured by `train` and `eval` as it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import av
from drawn_pictures import SHAPES, drawn

from edge_classifierd.clock import SystemClock
from edge_classifierd.teaching.store import TeachingStore

if TYPE_CHECKING:
    from pathlib import Path


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
