"""The `models` commands as a person calls them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import tflite_builder as tflite
from PIL import Image

from edge_classifierd.cli.models.list import model_rows

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAME = "mobilenet_v1_0.25_128_quant"


def models(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "models", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "EDGE_CLASSIFIERD_STATE": str(state)},
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_model_is_fetched_listed_in_use_verified_and_found_damaged(tmp_path: Path, shared: Path) -> None:
    handler = partial(QuietHandler, directory=str(shared / "data/coral"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        done = models(tmp_path, "fetch", NAME, "--mirror", f"http://127.0.0.1:{server.server_address[1]}", "--json")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    file = tmp_path / "models" / f"{NAME}.tflite"
    assert json.loads(done.stdout)["path"] == str(file)
    config = tmp_path / "config.yaml"
    config.write_text(f"pipelines: [{{name: porch, source: {{type: v4l2}}, model: {{path: {file}}}}}]\n")
    rows = {row["name"]: row for row in json.loads(models(tmp_path, "list", "-c", str(config), "--json").stdout)}
    assert (rows[NAME]["installed"], rows[NAME]["used_by"]) == (str(file), ["porch"])
    assert rows["efficientnet_lite0_int8"]["used_by"] == []
    assert rows["inception_v4_299_quant"]["installed"] is None
    assert models(tmp_path, "verify").returncode == 0
    file.write_bytes(file.read_bytes()[:-1])
    damaged = models(tmp_path, "verify")
    assert damaged.returncode == 1
    assert f"models fetch {NAME}" in damaged.stdout


def test_the_list_fits_80_columns_and_begins_with_what_is_in_use(tmp_path: Path, repository: Path) -> None:
    own = shutil.copy(repository / "models/efficientnet_lite0_int8.tflite", tmp_path / "birds.tflite")
    config = tmp_path / "config.yaml"
    sources = (f"{{name: {name}, source: {{type: folder, path: .}}, model: {model}}}" for name, model in [
        ("porch", "{path: birds.tflite}"), ("yard", f"{{path: models/{NAME}.tflite, cpu_model: birds.tflite}}")
    ])  # fmt: skip
    config.write_text(f"pipelines: [{', '.join(sources)}]\n")
    done = models(tmp_path, "list", "-c", str(config))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == [NAME, "birds", "efficientnet_lite0_int8"]
    assert lines[1].split()[1:] == ["0.5", "128", "39.5", "1,000", "things", "yard"]
    assert lines[2].split()[1:] == ["5.3", "your", "own", "porch,", "yard"]
    assert not any("?" in line or len(line) > 80 for line in lines)
    unknown = next(line for line in lines if line.startswith("inception_v4_299_quant"))
    assert unknown.split()[1:] == ["299", "79.5", "1,000", "things"]
    rows = json.loads(models(tmp_path, "list", "-c", str(config), "--json").stdout)
    assert [row["name"] for row in rows[:3]] == [NAME, "birds", "efficientnet_lite0_int8"]
    assert rows[1]["installed"] == str(own)
    assert sum(row["edgetpu"] for row in rows) == 26
    assert all(row["description"] for row in rows)


def test_a_configuration_that_is_not_there_is_reported_only_when_it_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = models(tmp_path, "list", "-c", str(tmp_path / "none.yaml"))
    assert done.returncode == 0
    assert "which models are in use is not known: " in done.stderr
    # Not the command: the service may be installed on this machine, with a configuration that is closed to the tests.
    model_rows(tmp_path / "none.yaml", tmp_path, optional=True)
    assert capsys.readouterr().err == ""


def test_an_unknown_name_is_a_mistake_of_usage_and_nothing_is_fetched(tmp_path: Path) -> None:
    done = models(tmp_path, "fetch", NAME, "mobilenet_v9")
    assert done.returncode == 2
    assert "mobilenet_v9: not in the catalogue" in done.stderr
    assert not (tmp_path / "models").exists()


def test_info_reads_for_people_and_for_programs(tmp_path: Path, repository: Path) -> None:
    bundled = str(shutil.copy(repository / "models/efficientnet_lite0_int8.tflite", tmp_path))
    text = models(tmp_path, "info", bundled).stdout
    assert "33 CONV_2D" in text
    assert "decided by" in text
    document = json.loads(models(tmp_path, "info", bundled, "--json").stdout)
    assert document["input"]["shape"] == [1, 224, 224, 3]
    assert models(tmp_path, "info", str(tmp_path / "absent.tflite")).returncode == 1


def test_info_of_a_model_that_cannot_run_fails(tmp_path: Path) -> None:
    path = tmp_path / "flex.tflite"
    path.write_bytes(tflite.pack(tflite.custom("FlexAdjustContrastv2"), files={"labels.txt": b"a\nb\nc\n"}))
    done = models(tmp_path, "info", str(path))
    assert done.returncode == 1
    assert "runs here    no: needs operators of the full TensorFlow (FlexAdjustContrastv2)" in done.stdout


def test_options_decide_the_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.pack(tflite.classifier(tflite.SOFTMAX), files={"labels.txt": b"a\nb\nc\n"}))
    guessed = json.loads(models(tmp_path, "info", "--json", str(path)).stdout)
    assert guessed["decided_by"] == "guess"
    assert "models probe" in guessed["warning"]
    options = ("--mean", "123.7,116.8,103.9", "--std", "58.4", "--channels", "bgr")
    given = json.loads(models(tmp_path, "info", "--json", *options, str(path)).stdout)
    assert (given["decided_by"], given["warning"]) == ("options", None)
    assert (given["mean"], given["std"], given["channels"]) == ([123.7, 116.8, 103.9], [58.4], "bgr")
    wrong = models(tmp_path, "info", "--mean", "1,2", str(path))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--mean 1,2: give one number, or three with commas between" in wrong.stderr


def test_probe_prints_the_line_for_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    labels = {"labels.txt": b"red\ngreen\nblue\n"}
    data = tflite.pack(tflite.classifier(tflite.SOFTMAX), files=labels)
    path.write_bytes(data)
    for name, colour in {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}.items():
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), tuple(value + 5 * number for value in colour)).save(folder / f"{number}.png")
    done = models(tmp_path, "probe", str(path), str(tmp_path / "pictures"))
    assert done.returncode == 0, done.stderr
    assert "model:\n  input: {mean: 0, std: 1}" in done.stdout
    document = json.loads(models(tmp_path, "probe", "--json", str(path), str(tmp_path / "pictures")).stdout)
    assert (document["decided"], document["labelled"], document["pictures"]) == (True, True, 12)
    assert document["input"] == {"mean": 0.0, "std": 1.0, "channels": "rgb"}
