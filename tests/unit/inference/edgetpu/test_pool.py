"""Several Edge TPUs with one model."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from failover_fakes import RED, journal, until

from edge_classifierd.errors import InferenceError
from edge_classifierd.inference.edgetpu.pool import EdgeTpuPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stand_in import Machine

pytestmark = pytest.mark.usefixtures("machine")


def test_a_pool_goes_on_when_one_of_its_tpus_dies(start: Callable[..., Any], machine: Machine, tmp_path: Path) -> None:
    machine.add("1-2")
    pool = start("edgetpu", count=2)
    assert isinstance(pool, EdgeTpuPool)
    assert pool.lanes == 2
    assert pool.accelerator == "usb:0, usb:1"
    used = {pool.classify(RED).accelerator for _ in range(4)}
    assert used == {"usb:0", "usb:1"}
    machine.remove("1-1")
    os.kill(int(journal(tmp_path)[0][0]), signal.SIGKILL)
    answers = [pool.classify(RED).accelerator for _ in range(20)]
    assert answers.count("cpu") <= 1
    assert set(answers[2:]) == {"usb:1"} or set(answers[2:]) == {"usb:0"}
    assert "1 of 2 Edge TPUs" in pool.degradation
    machine.add("1-1")
    until(lambda: pool.degradation is None, 6.0)


def test_without_a_cpu_model_the_others_of_a_pool_replace_a_dead_one(
    start: Callable[..., Any], machine: Machine, tmp_path: Path
) -> None:
    machine.add("1-2")
    pool = start("edgetpu", count=2, fallback=False)
    machine.remove("1-1")
    os.kill(int(journal(tmp_path)[0][0]), signal.SIGKILL)
    assert len({pool.classify(RED).accelerator for _ in range(6)}) == 1
    machine.remove("1-2")
    os.kill(int(journal(tmp_path)[1][0]), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InferenceError, match=r"set `model\.cpu_model`"):
            pool.classify(RED)


def test_a_pool_serves_several_threads_at_once(start: Callable[..., Any], machine: Machine, fault: Path) -> None:
    machine.add("1-2")
    fault.touch()
    pool = start("usb", count=2, mode="slow", deadline_s=2.0)  # 60 ms an inference

    def duration_s(threads: int, inferences: int) -> float:
        began_s = time.monotonic()
        workers = [
            threading.Thread(target=lambda: [pool.classify(RED) for _ in range(inferences)]) for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.monotonic() - began_s

    assert duration_s(threads=2, inferences=10) < 0.85 * duration_s(threads=1, inferences=20)


def test_fewer_tpus_than_configured_is_a_degradation(start: Callable[..., Any]) -> None:
    pool = start("usb", count=2)
    assert pool.classify(RED).accelerator == "usb:0"
    assert "1 of 2" in pool.degradation
