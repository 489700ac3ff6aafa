"""The real daemon keeps pictures to teach from, and goes on telling events meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config

from edge_classifierd.pipeline.collector import read_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_process import Broker, Subscriber


def test_detected_frames_lie_in_their_labels_folder_and_never_too_many(
    tmp_path: Path, broker: Broker, subscribe: Callable[..., Subscriber]
) -> None:
    counter = subscribe(broker.port)
    folder = photographs(tmp_path / "p", "cat", "coffee")
    collect = {"enabled": True, "when": ["detected"], "max_files": 3, "interval": 0}
    config = write_config(tmp_path / "config.yaml", broker.port, a_pipeline(folder, CAT, collect=collect))
    with Daemon(config) as daemon:
        wait_until(lambda: len(counter.first) >= 12, what="events")
        daemon.end()
        kept = list((daemon.state / "collected/driveway").rglob("*.jpg"))
    assert len(kept) == 3
    detected = {
        event["time"]: event for event in map(json.loads, counter.payloads.values()) if event["type"] == "detected"
    }
    matched = 0
    for file in kept:
        note = read_note(file.read_bytes())
        assert note is not None
        assert note["reasons"] == ["detected"]
        event = detected.get(note["time"])
        if event is not None:  # the last one may not have reached the broker before the end
            assert file.parent.name == event["top"][0]["label"] == note["top"][0]["label"]
            matched += 1
    assert matched
