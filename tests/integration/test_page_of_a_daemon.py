"""The page of a real daemon: a camera that rests by its schedule, and the end with an open event stream."""

from __future__ import annotations

import http.client
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from broker_process import free_port, wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

if TYPE_CHECKING:
    from pathlib import Path

    from broker_process import Broker


def test_rests_are_recorded_and_an_open_stream_ends_with_the_daemon(tmp_path: Path, broker: Broker) -> None:
    port, hour = free_port(), datetime.now().astimezone().hour
    later = f"{(hour + 6) % 24:02}:00-{(hour + 8) % 24:02}:00"
    pictures = photographs(tmp_path / "pictures", "cat")
    config = write_config(
        tmp_path / "config.yaml",
        broker.port,
        a_pipeline(pictures, CAT, active=later),
        web={"listen": f"127.0.0.1:{port}"},
    )

    def get(path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    with Daemon(config) as daemon:
        wait_until(lambda: get("/api/overview"), 40, f"the page: {daemon.log}")
        path = "/api/pipelines/driveway/history?span=60"
        wait_until(lambda: get(path)["resting"], 20, "a rest in the history")
        (resting,) = [one["resting"] for one in get("/api/overview")["pipelines"]]
        assert (resting["why"], resting["until"][-8:]) == ("schedule", ":00.000Z")
        stream = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        stream.request("GET", "/api/stream")
        answer = stream.getresponse()
        answer.readline()
        code, _ = daemon.end()
        assert code == 0
        assert answer.read().endswith(b"event: bye\ndata: {}\n\n")
        stream.close()
