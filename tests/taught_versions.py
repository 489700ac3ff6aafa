"""Versions of a taught model that nobody had to train: the file is a tiny classifier of three classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tflite_builder as tflite

from edge_classifierd.model.taught import MODEL_FILE
from edge_classifierd.teaching.training.result import TrainingResult, VersionClass, encode_result
from edge_classifierd.teaching.training.versions import RESULT_FILE, Versions

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("blue tit", "robin", "unknown")


def add_version(
    state: Path, model: str, number: int, *, threshold: float = 0.7, names: tuple[str, ...] = NAMES, **measured: Any
) -> Versions:
    """Add a version whose classes have these names, the last one unknown; `robin` has no recommended threshold.

    `measured` are fields of its result.
    """
    versions = Versions(state)
    labels = "".join(f"{name}\n" for name in names).encode()
    about = f"version {number}".encode()  # so that no two have the same content
    content = tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": labels, "about.txt": about})
    folder = versions.make_folder(model, f"made-{number}")
    (folder / MODEL_FILE).write_bytes(content)
    result = TrainingResult(
        version=number,
        made="2026-11-29T08:00:00.000Z",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        seconds=1.0,
        extractor="fast",
        learnt_from=30,
        estimate=False,
        classes=tuple(
            VersionClass(f"class-{at}", name.replace(" ", "-"), name, unknown=name == names[-1])
            for at, name in enumerate(names)
        ),
        held_out=None,
        unknown=None,
        against=None,
        thresholds={names[0].replace(" ", "-"): threshold},
    )
    (folder / RESULT_FILE).write_bytes(encode_result(replace(result, **measured)))
    versions.add(model, folder, number)
    return versions
