"""`replay` tells what the daemon would tell: compared with a real daemon on the same pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_process import Broker, Subscriber

NAMES = ("coffee", "cat", "cat", "rocket", "cat", "officer")


def replayed(*arguments: str) -> tuple[list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "edge_classifierd", "replay", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_a_replay_makes_the_events_that_the_daemon_makes(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    counter = subscribe(broker.port)
    folder = photographs(tmp_path / "p", *NAMES)
    rocket = {"name": "rocket", "labels": ["missile", "projectile", "space shuttle"], "threshold": 0.4}
    once = {"type": "folder", "path": str(folder), "fps": 5}
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(folder, CAT, rocket, source=once))
    with Daemon(config) as daemon:
        daemon.process.wait(60)
    wait_until(lambda: len(counter.payloads) >= 6, what="the daemon's events")
    real = [json.loads(counter.payloads[seq]) for seq in sorted(counter.payloads)]
    told, said = replayed("--config", str(config), "--json")
    same = ("seq", "type", "watch", "label", "confidence", "pipeline", "device")
    assert [[event[key] for key in same] for event in told] == [[event[key] for key in same] for event in real]
    assert f"{len(NAMES)} pictures" in said


def test_two_configurations_stand_in_one_table(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", *NAMES)
    first = write_config(tmp_path / "a.yaml", 1883, a_pipeline(folder, CAT))
    second = write_config(tmp_path / "b.yaml", 1883, a_pipeline(folder, {**CAT, "confirm": 2}))
    command = [sys.executable, "-m", "edge_classifierd", "replay", str(first), "--other", str(second)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert str(first) in done.stdout
    assert done.stdout.count("detected") == 3  # two by the first, one by the second
    assert "times faster" in done.stderr
