"""A table of model files × (info, check, classify, expected, reference).

usage: python bench/models.py FOLDER

Each folder inside FOLDER holds one model, its labels and `pictures/`, perhaps with `expected.json`. The last two rows
are the bundled models on the bundled photographs. `expected.json` is
{"preparation": "01" | "m1" | "255" | "torch", "bgr": bool, "fit": …, "expected": {PICTURE: {"top", "confidence"}}}.

info, check: the exit codes of `models info` and of `check` with a configuration that names the model. classify: how
many pictures were classified. expected: how many have the expected label. reference: how many have the label that
Pillow, numpy and the runtime alone give with the same mean and deviation, and the greatest difference of a confidence.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

from edge_classifierd.model.bundle import BUNDLED_MODELS, bundled_model_path

PHOTOS = Path(__file__).resolve().parents[1] / "edge_classifierd" / "demo_photos"
PREPARATIONS = {
    "01": ("0", "255"),
    "m1": ("127.5", "127.5"),
    "255": ("0", "1"),
    "torch": ("123.675,116.28,103.53", "58.395,57.12,57.375"),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_classifierd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def options_for(expected: dict[str, Any]) -> list[str]:
    mean, std = PREPARATIONS[expected["preparation"]]
    return ["--mean", mean, "--std", std, *(["--channels", "bgr"] if expected["bgr"] else [])]


def check(folder: Path, model: Path, options: dict[str, str]) -> int:
    source = {"type": "folder", "path": str(folder / "pictures")}
    document = {"pipelines": [{"name": "a", "source": source, "model": {"path": str(model), "input": options}}]}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "config.yaml"
        file.write_text(json.dumps(document))
        return run("check", "--config", str(file)).returncode


def input_section(options: list[str]) -> dict[str, Any]:
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    section: dict[str, Any] = {}
    for name in ("mean", "std"):
        if f"--{name}" in pairs:
            values = [float(one) for one in pairs[f"--{name}"].split(",")]
            section[name] = values[0] if len(values) == 1 else values
    if "--channels" in pairs:
        section["channels"] = pairs["--channels"]
    return section


def reference(model: Path, info: dict[str, Any], picture: Path) -> np.ndarray:
    """The scores that Pillow, numpy and the runtime give."""
    image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    height, width = info["input"]["height"], info["input"]["width"]
    scale = min(image.width / width, image.height / height)
    box = (width * scale, height * scale)
    left, top = (image.width - box[0]) / 2, (image.height - box[1]) / 2
    image = image.resize((width, height), Image.Resampling.BOX, (left, top, left + box[0], top + box[1]))
    if info["input"]["channels"] == 1:
        pixels = np.asarray(image.convert("L"), np.float64)[..., None]
    else:
        pixels = np.asarray(image, np.float64)
        pixels = pixels[..., ::-1] if info["channels"] == "bgr" else pixels
    values = (pixels - np.array(info["mean"])) / np.array(info["std"])
    if info["input"]["dtype"] != "float32":
        limits = np.iinfo(info["input"]["dtype"])
        values = np.clip(np.rint(values / info["input"]["scale"]) + info["input"]["zero_point"], limits.min, limits.max)
    if info["input"]["channels_first"]:
        values = values.transpose(2, 0, 1)
    interpreter = Interpreter(model_path=str(model))
    detail = interpreter.get_input_details()[0]
    if list(detail["shape"]) != info["input"]["shape"]:
        interpreter.resize_tensor_input(detail["index"], info["input"]["shape"])
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], values.astype(info["input"]["dtype"]).reshape(info["input"]["shape"]))
    interpreter.invoke()
    output = interpreter.get_output_details()[info["output"]["number"]]
    raw = interpreter.get_tensor(output["index"]).reshape(-1)
    zero_point, factor = info["output"]["zero_point"], info["output"]["scale"]
    scores = raw.astype(np.float64) if raw.dtype == np.float32 else (raw.astype(np.float64) - zero_point) * factor
    return np.array([1 - scores[0], scores[0]]) if info["output"]["kind"] == "binary" else scores


def row(folder: Path, model: Path) -> list[str]:
    file = folder / "expected.json"
    expected = json.loads(file.read_text()) if file.is_file() else None
    options = [] if expected is None else options_for(expected)
    plain = run("models", "info", "--json", str(model))
    told = run("models", "info", "--json", *options, str(model))
    info = json.loads(told.stdout) if told.stdout else None
    decided = json.loads(plain.stdout)["decided_by"] if plain.stdout else plain.stderr.strip().split(": ", 1)[-1][:60]
    checked = check(folder, model, input_section(options)) if (folder / "pictures").is_dir() else "-"
    cells = [folder.name, str(told.returncode), str(checked), "-", "-", "-", decided]
    pictures = sorted((folder / "pictures").iterdir()) if (folder / "pictures").is_dir() else []
    if not pictures:
        return cells
    done = run("classify", "--json", "--top", "1000", "--model", str(model), *options, *map(str, pictures))
    results = {Path(one["file"]).name: one["top"] for one in map(json.loads, done.stdout.splitlines())}
    cells[3] = f"{len(results)}/{len(pictures)}"
    if expected is not None:
        right = sum(results.get(name, [{}])[0].get("index") == one["top"] for name, one in expected["expected"].items())
        cells[4] = f"{right}/{len(expected['expected'])}"
    if results and info is not None:
        same, worst = 0, 0.0
        for name, ranked in results.items():
            scores = reference(model, info, folder / "pictures" / name)
            ours = np.zeros(len(scores))
            for one in ranked:
                ours[one["index"]] = one["confidence"]
            same += int(ours.argmax() == scores.argmax())
            worst = max(worst, float(np.abs(ours - scores).max()))
        cells[5] = f"{same}/{len(results)} (±{worst:.3f})"
    return cells


def main() -> None:
    cases = Path(sys.argv[1])
    rows = [["folder", "info", "check", "classify", "expected", "reference", "decided by, or reason"]]
    for folder in sorted(path for path in cases.iterdir() if path.is_dir()):
        models = sorted([*folder.glob("*.tflite"), *folder.glob("*.lite"), *folder.glob("*.zip")])
        rows += [row(folder, model) for model in models]
    with tempfile.TemporaryDirectory() as scratch:
        for name in BUNDLED_MODELS:
            folder = Path(scratch) / f"bundled-{name}"
            (folder / "pictures").mkdir(parents=True)
            for photo in PHOTOS.glob("*.jpg"):
                (folder / "pictures" / photo.name).symlink_to(photo)
            rows.append(row(folder, bundled_model_path(name)))
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
