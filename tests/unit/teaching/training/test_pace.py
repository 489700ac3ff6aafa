"""A training pauses where it has to wait for the processor, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from edge_classifierd.teaching.training import pace
from edge_classifierd.teaching.training.pace import Pace

if TYPE_CHECKING:
    from pathlib import Path


class Scene:
    """A clock, and the kernel's file about the process."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.now_s = 100.0
        self.pauses_s: list[float] = []
        self.waited(0.0)

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds

    def waited(self, seconds: float) -> None:
        """Set how long the process has waited for the processor, since its beginning."""
        self.file.write_text(f"123456789 {round(seconds * 1e9)} 42\n")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path / "schedstat")
    monkeypatch.setattr(pace, "_SCHEDSTAT", scene.file)
    monkeypatch.setattr(time, "monotonic", lambda: scene.now_s)
    monkeypatch.setattr(time, "sleep", scene.sleep)
    return scene


def test_it_pauses_twice_as_long_as_a_step_that_had_to_wait(scene: Scene) -> None:
    one = Pace()
    scene.now_s += 0.1
    scene.waited(0.04)
    one.step()
    assert scene.pauses_s == [pytest.approx(0.2)]
    scene.now_s += 0.1  # nothing was waited for since then, and the pause is no work
    one.step()
    assert len(scene.pauses_s) == 1


def test_a_slow_disk_is_no_reason_to_pause(scene: Scene) -> None:
    one = Pace()
    scene.now_s += 5.0
    one.step()
    assert scene.pauses_s == []


def test_short_steps_are_judged_together(scene: Scene) -> None:
    one = Pace()
    for number in range(1, 4):
        scene.now_s += 0.009
        scene.waited(0.004 * number)
        one.step()
    assert scene.pauses_s == [pytest.approx(0.054)]


@pytest.mark.parametrize("content", [None, "", "123\n", "1 x 2\n"])
def test_without_the_kernels_count_it_never_pauses(scene: Scene, content: str | None) -> None:
    if content is None:
        scene.file.unlink()
    else:
        scene.file.write_text(content)
    one = Pace()
    scene.now_s += 1.0
    one.step()
    assert scene.pauses_s == []


def test_the_kernel_counts_the_time_that_a_process_waits_for_the_processor() -> None:
    """Two processes on one processor: each waits while the other works."""
    if not pace._SCHEDSTAT.exists():
        pytest.skip("this kernel does not count it")
    code = "import time\nfrom edge_classifierd.teaching.training import pace\nend = time.process_time() + 0.1\n"
    code += "while time.process_time() < end: pass\nprint(pace._waited_s())"
    one = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{one}}})\n{code}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert max(float(process.communicate(timeout=60)[0]) for process in processes) > 0.0
