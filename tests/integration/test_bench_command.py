"""`bench` as a person calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_classifierd", "bench", "--seconds", "0.3", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_models_and_threads_stand_side_by_side(repository: Path) -> None:
    model = str(repository / "models/efficientnet_lite0_int8.tflite")
    done = bench(model, "--threads", "1,2", "--fps", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [one["threads"] for one in results] == [1, 2]
    for one in results:
        assert one["meets"]
        assert "keeps up with 0.1 fps" in one["verdict"]
        # Each was measured in a process of its own: the model's memory counts every time.
        assert one["memory_mb"] > 3
        assert 0 < one["stages"]["gate"]["p50"] < one["stages"]["whole"]["p50"]


def test_the_table_has_a_line_for_each_and_a_verdict(repository: Path) -> None:
    done = bench(str(repository / "models/efficientnet_lite0_int8.tflite"), "--threads", "1", "--fps", "1000")
    assert done.returncode == 0, done.stderr
    assert "inference p50" in done.stdout
    assert "`gate` the motion gate's look" in done.stdout
    assert "does not keep up with 1000 fps" in done.stdout


def test_mistakes_are_reported_before_anything_is_measured(tmp_path: Path) -> None:
    assert bench("--threads", "two").returncode == 2
    done = bench(str(tmp_path / "absent.tflite"))
    assert done.returncode == 1
    assert "measuring" not in done.stderr


def test_a_failure_in_the_measuring_process_is_one_sentence(shared: Path) -> None:
    done = bench(str(shared / "data/coral/mobilenet_v1_0.25_128_quant_edgetpu.tflite"), "--threads", "1")
    assert done.returncode == 3
    assert "none is plugged in" in done.stderr
    assert "Traceback" not in done.stderr
