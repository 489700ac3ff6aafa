"""The status line that the daemon reports to systemd."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY_LISTENS = 9  # discard


def told(manager: socket.socket, within_s: float = 20) -> Iterator[str]:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        yield manager.recv(4096).decode()


def status_of(message: str) -> str:
    return next((line.removeprefix("STATUS=") for line in message.splitlines() if line.startswith("STATUS=")), "")


def test_status_is_starting_before_there_is_a_rate(tmp_path: Path, manager: socket.socket) -> None:
    folder = photographs(tmp_path / "pictures", "cat", "coffee")
    config = write_config(tmp_path / "config.yaml", NOBODY_LISTENS, a_pipeline(folder, CAT))
    statuses: list[str] = []
    with Daemon(config, NOTIFY_SOCKET=str(tmp_path / "notify")):
        for message in told(manager):
            statuses += [status_of(message)] if "STATUS=" in message else []
            if message.startswith("READY=1"):
                assert statuses[-1].startswith("1 pipeline, starting, ")
            if " fps, " in statuses[-1]:
                break
    assert statuses[-1].startswith("1 pipeline, ")
    assert float(statuses[-1].split(", ")[1].removesuffix(" fps")) > 0
    assert not [status for status in statuses if "0.0 fps" in status]


def test_camera_that_fails_is_not_starting(tmp_path: Path, manager: socket.socket) -> None:
    gone = {"type": "v4l2", "device": str(tmp_path / "no-camera")}
    config = write_config(tmp_path / "config.yaml", NOBODY_LISTENS, a_pipeline(tmp_path, CAT, source=gone))
    with Daemon(config, NOTIFY_SOCKET=str(tmp_path / "notify")):
        ready = next(message for message in told(manager) if message.startswith("READY=1"))
    assert status_of(ready).startswith("1 pipeline, 0.0 fps, no frames from driveway, ")


def test_starting_pipeline_does_not_hide_the_rate_of_others(tmp_path: Path, manager: socket.socket) -> None:
    folder = photographs(tmp_path / "pictures", "cat", "coffee")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = {"type": "stream", "url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        door = a_pipeline(folder, CAT, name="door", source=slow)
        config = write_config(tmp_path / "config.yaml", NOBODY_LISTENS, a_pipeline(folder, CAT), door)
        with Daemon(config, NOTIFY_SOCKET=str(tmp_path / "notify")):
            statuses = (status_of(message) for message in told(manager))
            running = next(status for status in statuses if " fps, " in status)
    assert running.startswith("2 pipelines, ")
    assert " 0.0 fps" not in running
    assert "no frames" not in running
