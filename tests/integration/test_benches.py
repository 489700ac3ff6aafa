"""Benches that no other test runs still work with the present code; their figures are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bench_of_the_latency_prints_its_figures(repository: Path) -> None:
    command = [sys.executable, "bench/latency.py", "--events", "20", "--json"]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["beyond_inference_ms"] > 0


def test_the_bench_of_taught_pictures_prints_its_figures(repository: Path) -> None:
    command = [sys.executable, "bench/teaching_store.py", "--pictures", "800", "--runs", "1", "--json"]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=100, check=False)
    assert ran.stderr == ""
    assert json.loads(ran.stdout)["to_sort_ms"] > 0
