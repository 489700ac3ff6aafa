"""The access control list that docs/broker.md prints, on a real mosquitto with the real daemon."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from broker_process import wait_until
from daemon_process import CAT, Daemon, a_pipeline, photographs, write_config
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_process import Broker

PASSWORD = "correct horse"
BASE = "edge-classifierd/porch"


def accounts(folder: Path, *names: str) -> Path:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    file = folder / "passwd"
    file.touch(0o600)
    for name in names:
        subprocess.run([tool, "-b", str(file), name, PASSWORD], check=True, capture_output=True)
    return file


@pytest.fixture
def guarded(make_broker: Callable[..., Broker], tmp_path: Path, repository: Path) -> Broker:
    text = (repository / "docs" / "broker.md").read_text()
    listed = re.search(r"<!-- acl -->\n```\n(.*?)```", text, re.DOTALL)
    assert listed is not None
    (tmp_path / "acl").write_text(listed[1])
    passwords = accounts(tmp_path, "porch", "garden", "home")
    return make_broker(f"allow_anonymous false\npassword_file {passwords}\nacl_file {tmp_path}/acl")


class HomeAssistantDevice:
    """Home automation: an account of its own that records what it may read."""

    def __init__(self, broker: Broker, name: str = "home") -> None:
        self.heard: list[tuple[str, bytes]] = []
        listens = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.username_pw_set(name, PASSWORD)
        self.client.on_message = self._note
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: listens.set()
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert listens.wait(20)

    def _note(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))

    def last(self, topic: str) -> bytes | None:
        return next((payload for one, payload in reversed(self.heard) if one == topic), None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def home(guarded: Broker) -> Iterator[HomeAssistantDevice]:
    listening = HomeAssistantDevice(guarded)
    yield listening
    listening.close()


def test_documented_acl_is_enough_for_a_device(guarded: Broker, home: HomeAssistantDevice, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "c.yaml",
        guarded.port,
        a_pipeline(photographs(tmp_path / "p", "cat", "coffee"), CAT),
        mqtt={"host": "127.0.0.1", "port": guarded.port, "username": "porch", "password": PASSWORD},
    )
    (tmp_path / "c.yaml").chmod(0o600)
    with Daemon(config) as daemon:
        wait_until(lambda: home.last(f"{BASE}/driveway/event"))
        wait_until(lambda: home.last(f"{BASE}/driveway/image"))
        wait_until(lambda: home.last(f"{BASE}/health"))
        home.client.publish(f"{BASE}/driveway/cat/threshold/set", "0.9", qos=1)
        wait_until(lambda: home.last(f"{BASE}/driveway/cat/threshold") == b"0.9")
        home.client.publish(f"{BASE}/driveway/region/set", '{"x": 0.5}', qos=1)
        part = b'{"x":0.5,"y":0.0,"width":0.5,"height":1.0}'
        wait_until(lambda: home.last(f"{BASE}/driveway/region") == part)
        home.client.publish(f"{BASE}/driveway/enabled/set", "OFF", qos=1)
        wait_until(lambda: home.last(f"{BASE}/driveway/enabled") == b"OFF")
        assert daemon.end()[0] == 0
        assert "refuse" not in daemon.said
        assert PASSWORD not in daemon.said
    wait_until(lambda: home.last(f"{BASE}/status") == b"offline")


def test_documented_acl_protects_the_topics_of_other_devices(guarded: Broker, home: HomeAssistantDevice) -> None:
    garden = HomeAssistantDevice(guarded, "garden")
    garden.client.publish("edge-classifierd/garden/status", "online", qos=1)
    wait_until(lambda: home.last("edge-classifierd/garden/status") == b"online")
    garden.client.publish(f"{BASE}/driveway/event", "forged", qos=1)
    home.client.publish(f"{BASE}/driveway/enabled/set", "OFF", qos=1)
    home.client.publish(f"{BASE}/driveway/event", "forged too", qos=1)
    time.sleep(1.0)
    assert home.last(f"{BASE}/driveway/event") is None
    assert {topic for topic, _ in garden.heard} == {"edge-classifierd/garden/status"}, "its own only"
    garden.close()
