"""`listen` beside others that publish on its topics: no event is one sentence, and never on a JSON stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from paho.mqtt import publish

if TYPE_CHECKING:
    from broker_process import Broker

LATE = {
    "schema": 1, "event_id": "x", "seq": 1, "type": "detected", "device": "porch", "pipeline": "p", "watch": "w",
    "label": "cat", "confidence": 0.9, "top": [], "time": "9999-12-31T23:59:59.999Z", "clock_synchronised": True,
    "model": {"name": "m", "sha256": "0", "runtime": "r", "accelerator": "cpu"}, "inference_ms": 1.0, "active_s": None,
}  # fmt: skip


def retain(broker: Broker, topic: str, payload: bytes) -> None:
    where = f"edge-classifierd/{topic}"
    publish.single(where, payload, qos=1, retain=True, hostname="127.0.0.1", port=broker.port)


def listen(broker: Broker, *options: str, **payloads: bytes) -> subprocess.CompletedProcess[str]:
    """What `listen` makes of retained messages, one a pipeline."""
    for name, payload in payloads.items():
        retain(broker, f"porch/{name}/event", payload)
    where = ("--host", "127.0.0.1", "--port", str(broker.port), "--device", "porch", "--for", "2")
    return subprocess.run(
        [sys.executable, "-m", "edge_classifierd", "listen", *where, *options],
        check=False, capture_output=True, text=True, timeout=30, env={**os.environ, "TZ": "Pacific/Kiritimati"},
    )  # fmt: skip


def test_an_event_of_a_time_that_no_clock_here_can_show_is_one_sentence(broker: Broker) -> None:
    done = listen(broker, a=json.dumps(LATE).encode())
    assert done.returncode == 0
    (where,) = done.stderr.splitlines()
    assert where.endswith("to events of the device `porch` (edge-classifierd/porch/+/event); Ctrl-C ends it")
    (said,) = done.stdout.splitlines()
    assert said.startswith("edge-classifierd/porch/a/event: its time 9999-12-31T23:59:59.999000+00:00 cannot be shown")


def test_json_holds_one_document_a_line_and_the_rest_is_complained_of(broker: Broker) -> None:
    done = listen(
        broker, "--json", a=b"no\njson", b=json.dumps(LATE, indent=2).encode(), c=b'{"x": NaN}', d=b"\xff", e=b'"e"'
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [LATE, "e"]
    assert [line.partition(": ")[0][-7:] for line in done.stderr.splitlines()[1:]] == ["a/event", "c/event", "d/event"]


@pytest.mark.parametrize(
    ("statuses", "options", "sentence"),
    [
        ({"porch": b"online"}, (), None),
        ({"porch": b"online", "door": b"offline"}, ("--device", "+"), None),
        ({"porch": b"online"}, ("--all",), None),
        ({"porch": b"offline"}, (), "porch is offline; events come once its daemon runs again"),
        ({"porch": b"offline", "door": b"offline"}, ("--device", "+"), "door, porch is offline; events come once"),
        (
            {}, (), "the device `porch` was not found; start its daemon, or listen to all devices with --device +",
        ),
        (
            {"door": b"online", "attic": b"offline"}, (),
            "the device `porch` was not found; give --device for one of attic, door, or listen to all devices",
        ),
        ({}, ("--device", "+"), "no device was found below `edge-classifierd/`; start its daemon, or check mqtt.base"),
        ({}, ("--device", "+", "--all"), "no device was found below `edge-classifierd/`"),
    ],
)  # fmt: skip
def test_it_is_reported_once_when_the_device_is_not_there(
    broker: Broker, statuses: dict[str, bytes], options: tuple[str, ...], sentence: str | None
) -> None:
    for device, status in statuses.items():
        retain(broker, f"{device}/status", status)
    done = listen(broker, *options)
    assert done.returncode == 0
    said = done.stderr.splitlines()
    assert "listening to" in said[0]
    assert len(said) == (1 if sentence is None else 2), said
    assert sentence is None or sentence in said[1]
