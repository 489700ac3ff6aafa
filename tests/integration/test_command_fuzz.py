"""Random messages on the command topics of the real daemon: no exception, no change that is not a valid command."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_process import Broker, Subscriber

BASE = "edge-classifierd/porch"
MESSAGES = 100_000 if os.environ.get("EDGE_CLASSIFIERD_LONG") == "1" else 3_000

_LEVELS = ["driveway", "cat", "garden", "enabled", "threshold", "snapshot", "reload", "state", "é", "x" * 300, "$S", ""]
_WORDS = [b"NO", b"nan", b"inf", b"-inf", b"1e400", b"0", b"-0.0", b"1.0000001", b"0x1", b"{}", b"[]", b"null", b"\0"]


def garbage(source: random.Random) -> tuple[str, bytes]:
    """A message that is no valid command: the topic may be right, the payload is not, or the other way round."""
    kind = source.random()
    payload = source.choice(_WORDS) if kind < 0.5 else source.randbytes(source.choice([0, 1, 7, 64, 65, 3000]))
    if kind < 0.7:
        topic = source.choice(["driveway/cat/threshold", "driveway/dog/threshold", "nowhere/enabled", "reload"])
        if topic == "reload":
            payload = b"?" + payload
    else:
        topic = "/".join(source.choices(_LEVELS, k=source.randint(1, 5)))
        if topic in {"driveway/enabled", "driveway/snapshot", "reload"}:
            payload = b"neither"
    if topic == "driveway/cat/threshold" and payload.strip() in {b"1", b"1.0"}:
        payload = b"2"
    return f"{BASE}/{topic}/set", payload


@pytest.mark.timeout(900)
def test_random_messages_change_nothing_and_break_nothing(
    broker: Broker, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    subscriber = subscribe(broker.port, f"{BASE}/#")
    config = write_config(tmp_path / "c.yaml", broker.port, a_pipeline(photographs(tmp_path / "p", "coffee"), CAT))
    source = random.Random(7)
    with Daemon(config) as daemon:
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/status") == b"online")
        sender = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        sender.connect("127.0.0.1", broker.port)
        sender.loop_start()
        for number in range(MESSAGES):
            topic, payload = garbage(source)
            info = sender.publish(topic, payload, qos=0)
            if number % 500 == 499:
                info.wait_for_publish(30)
                time.sleep(0.05)
        sender.publish(f"{BASE}/driveway/cat/threshold/set", b"y" * 10_000_000, qos=0).wait_for_publish(60)
        time.sleep(3.0)  # the flood has spent the commands' allowance; it comes back by the second
        sender.publish(f"{BASE}/driveway/cat/threshold/set", "0.75", qos=1).wait_for_publish(30)
        wait_until(lambda: subscriber.last(f"{BASE}/driveway/cat/threshold") == b"0.75")
        sender.disconnect()
        sender.loop_stop()
        heard = [(topic, payload) for topic, payload, _ in subscriber.messages]
        assert [payload for topic, payload in heard if topic == f"{BASE}/driveway/cat/threshold"] == [b"0.5", b"0.75"]
        assert [payload for topic, payload in heard if topic == f"{BASE}/driveway/enabled"] == [b"ON"]
        assert f"{BASE}/driveway/image" not in [topic for topic, _ in heard]
        assert daemon.end()[0] == 0
        assert "Traceback" not in daemon.said
        assert "reloaded" not in daemon.said
