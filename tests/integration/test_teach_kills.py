"""SIGKILL at any moment leaves pictures and the version in use intact; `bench/teach_kills.py` repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from teach_device import TeachDevice
from teach_kills import kill_daemon, kill_training, prepared

if TYPE_CHECKING:
    from pathlib import Path

    from broker_process import Broker


def test_killing_daemon_and_training_leaves_pictures_and_version_intact(tmp_path: Path, broker: Broker) -> None:
    with TeachDevice(tmp_path, broker.port) as device:
        promised = prepared(device)
        kill_training(device, promised, after_s=0.7, seed=1)
        for number, after_s in enumerate((0.4, 2.0)):
            kill_daemon(device, promised, after_s=after_s, seed=number)
        assert promised.pictures
