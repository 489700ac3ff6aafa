"""`listen` beside others that publish on its topics: no event is one sentence, and never on a JSON stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from paho.mqtt import publish

if TYPE_CHECKING:
    from broker_process import Broker

LATE = {
    "schema": 1, "event_id": "x", "seq": 1, "type": "detected", "device": "porch", "pipeline": "p", "watch": "w",
    "label": "cat", "confidence": 0.9, "top": [], "time": "9999-12-31T23:59:59.999Z", "clock_synchronised": True,
    "model": {"name": "m", "sha256": "0", "runtime": "r", "accelerator": "cpu"}, "inference_ms": 1.0, "active_s": None,
}  # fmt: skip


def listen(broker: Broker, *options: str, **payloads: bytes) -> subprocess.CompletedProcess[str]:
    """What `listen` makes of retained messages, one a pipeline."""
    for name, payload in payloads.items():
        topic = f"edge-classifierd/porch/{name}/event"
        publish.single(topic, payload, qos=1, retain=True, hostname="127.0.0.1", port=broker.port)
    where = ("--host", "127.0.0.1", "--port", str(broker.port), "--device", "porch", "--for", "2")
    return subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "listen", *where, *options],
        check=False, capture_output=True, text=True, timeout=30, env={**os.environ, "TZ": "Pacific/Kiritimati"},
    )  # fmt: skip


def test_an_event_of_a_time_that_no_clock_here_can_show_is_one_sentence(broker: Broker) -> None:
    done = listen(broker, a=json.dumps(LATE).encode())
    assert (done.returncode, done.stderr) == (0, "")
    (said,) = done.stdout.splitlines()
    assert said.startswith("edge-classifierd/porch/a/event: its time 9999-12-31T23:59:59.999000+00:00 cannot be shown")


def test_json_holds_one_document_a_line_and_the_rest_is_complained_of(broker: Broker) -> None:
    done = listen(
        broker, "--json", a=b"no\njson", b=json.dumps(LATE, indent=2).encode(), c=b'{"x": NaN}', d=b"\xff", e=b'"e"'
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [LATE, "e"]
    assert [line.partition(": ")[0][-7:] for line in done.stderr.splitlines()] == ["a/event", "c/event", "d/event"]
