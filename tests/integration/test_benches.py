"""Benches that no other test runs still work with the present code; their figures are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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


def test_the_bench_of_a_fleet_finds_lost_late_altered_and_foreign_events(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "bench"))
    from fleet_devices import Appended
    from fleet_subscriber import Comparison, Received, compare

    appended = [Appended(device, seq, f"{device}{seq}", 0.0, 0.0) for device in "ab" for seq in (1, 2, 3)]
    whole = [Received(one.device, one.seq, one.event_id, b"x", 0.0) for one in appended]
    assert compare(appended, whole) == Comparison(0, 0, 0, 0, 0)
    assert compare(appended, [*whole, whole[0]]) == Comparison(0, 0, 0, 1, 0)
    assert not compare(appended, whole[1:]).holds
    assert compare(appended, whole[1:]) == Comparison(1, 0, 0, 0, 0)
    assert compare(appended, [whole[1], whole[0], *whole[2:]]) == Comparison(0, 0, 1, 0, 0)
    altered = Received("a", 1, "a1", b"y", 0.0)
    assert compare(appended, [*whole, altered]) == Comparison(0, 0, 0, 1, 1)
    assert compare(appended, [*whole, Received("c", 1, "c1", b"x", 0.0)]) == Comparison(0, 1, 0, 0, 0)
